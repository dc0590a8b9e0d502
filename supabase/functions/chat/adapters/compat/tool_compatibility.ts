/**
 * Lets tools of the new form be called the old way: a name and arguments as JSON text in, text out.
 *
 * @module
 */

import { isRow } from "../../../_shared/crossfade/snapshot.ts";

/** A tool of the new form. */
export interface Tool {
  readonly name: string;
  readonly description?: string;
  readonly input_schema: Readonly<Record<string, unknown>>;
  run(input: Readonly<Record<string, unknown>>): Promise<unknown>;
}

/** A call of the old form. */
export interface LegacyCall {
  readonly name: string;
  readonly arguments: string | Readonly<Record<string, unknown>>;
}

/** How a call of the old form went; `content` is what the old side stores. */
export interface LegacyResult {
  readonly name: string;
  readonly content: string;
  readonly isError: boolean;
}

export class ToolCompatibilityWrapper {
  readonly #tools: ReadonlyMap<string, Tool>;

  constructor(tools: readonly Tool[]) {
    this.#tools = new Map(tools.map((tool) => [tool.name, tool]));
  }

  /** Describes the tools in the old form: one entry per parameter, `required` on each. */
  describe(): readonly Readonly<Record<string, unknown>>[] {
    return [...this.#tools.values()].map(({ name, description, input_schema }) => {
      const required = Array.isArray(input_schema.required) ? input_schema.required : [];
      const properties = isRow(input_schema.properties) ? input_schema.properties : {};
      const parameters = Object.fromEntries(
        Object.entries(properties).map(([key, schema]) => [
          key,
          { ...(isRow(schema) ? schema : {}), required: required.includes(key) },
        ]),
      );
      return { name, description: description ?? "", parameters };
    });
  }

  /** Calls a tool. Never throws: the old side knows errors only as text. */
  async call({ name, arguments: given }: LegacyCall): Promise<LegacyResult> {
    const tool = this.#tools.get(name);
    if (tool === undefined) return failed(name, `There is no tool "${name}"`);
    const input = readArguments(given);
    if (input === undefined) return failed(name, `The arguments of "${name}" are not an object`);
    try {
      const output = await tool.run(input);
      const content = typeof output === "string" ? output : JSON.stringify(output ?? null);
      return { name, content, isError: false };
    } catch (error) {
      return failed(name, error instanceof Error ? error.message : String(error));
    }
  }
}

function readArguments(
  given: LegacyCall["arguments"],
): Readonly<Record<string, unknown>> | undefined {
  if (typeof given !== "string") return given;
  if (given.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(given);
    return isRow(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function failed(name: string, content: string): LegacyResult {
  return { name, content, isError: true };
}
