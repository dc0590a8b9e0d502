/**
 * Lets tools of the old form run beside those of the new one.
 *
 * A tool itself is never changed: an old one is described by its parameters, answers text and may
 * throw; a new one is described by a schema and answers JSON. A model gets to know both in one form,
 * and calls both with a block.
 *
 * @module
 */

import { isObject, type JsonObject } from "../changes/json.ts";
import { cleaned } from "../changes/storable.ts";
import { put, type ToolDefinition } from "../../formats/format.ts";
import { legacy } from "../../formats/legacy.ts";
import { newFormat } from "../../formats/new.ts";

/** A tool of the new form. */
export interface Tool {
  readonly name: string;
  readonly description?: string;
  readonly input_schema: JsonObject;
  run(input: JsonObject): Promise<unknown>;
}

/** A tool of the old form. */
export interface LegacyTool {
  readonly name: string;
  readonly description?: string;
  /** One entry for each parameter, or a schema. */
  readonly parameters?: JsonObject;
  /** Answers text; may throw. */
  execute(parameters: JsonObject): unknown;
}

export class ToolCompatibilityWrapper {
  readonly #tools: ReadonlyMap<unknown, Tool | LegacyTool>;

  constructor(tools: readonly (Tool | LegacyTool)[]) {
    this.#tools = new Map(tools.map((tool) => [tool.name, tool]));
  }

  /** Describes all tools in the new form, as they are exported to providers. */
  definitions(): readonly ToolDefinition[] {
    return [...this.#tools.values()].map(definitionOf);
  }

  /**
   * Calls a tool and returns the block of the result. Never throws.
   *
   * @param call a block of type `tool_call`
   */
  async run(call: JsonObject): Promise<JsonObject> {
    const { tool_call_id, name } = call;
    const { output, isError } = await this.#outcome(call);
    return { type: "tool_result", tool_call_id, name, output, is_error: isError };
  }

  async #outcome({ name, input, state, error }: JsonObject) {
    const tool = this.#tools.get(name);
    if (tool === undefined) return failed(`There is no tool "${name}"`);
    // Marked by who read the call: it is not what the model asked for.
    if (state === "error" && typeof error === "string") return failed(error);
    if (!isObject(input)) return failed(`The arguments of "${name}" are not an object`);
    try {
      return { output: await invoke(tool, input), isError: false };
    } catch (thrown) {
      return failed(thrown instanceof Error ? thrown.message : String(thrown));
    }
  }
}

function isLegacy(tool: Tool | LegacyTool): tool is LegacyTool {
  return "execute" in tool;
}

/** Returns what JSON keeps of a tool's output, and PostgreSQL of that: it will be stored. */
async function invoke(tool: Tool | LegacyTool, input: JsonObject): Promise<unknown> {
  const output = await (isLegacy(tool) ? tool.execute(input) : tool.run(input));
  if (typeof output === "string") return cleaned(output);
  const text: string | undefined = JSON.stringify(output);
  return text === undefined ? null : cleaned(JSON.parse(text));
}

function definitionOf(tool: Tool | LegacyTool): ToolDefinition {
  if (isLegacy(tool)) {
    const { execute: _, ...described } = tool;
    return put(legacy, "tool", described) as ToolDefinition;
  }
  const { run: _, ...definition } = tool;
  return put(newFormat, "tool", definition) as ToolDefinition;
}

function failed(output: string) {
  return { output, isError: true };
}
