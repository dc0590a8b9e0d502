/**
 * Lets tools of either form be used from either side, and measures them.
 *
 * The old side calls a name with arguments as JSON text and gets text. The new side calls with a
 * block and gets a block. A tool itself is never changed: it sees what its own side would send.
 *
 * @module
 */

import { canonical, isObject, type JsonObject, own } from "../changes/json.ts";
import { parseObject } from "../changes/storable.ts";
import { put, show, type ToolDefinition } from "../tools/format.ts";
import { legacy } from "../tools/legacy.ts";
import { ToolMeter, type ToolMetrics } from "./tool_meter.ts";

type Arguments = JsonObject;

/** A tool of the new form. */
export interface Tool {
  readonly name: string;
  readonly description?: string;
  readonly input_schema: JsonObject;
  readonly output_schema?: JsonObject;
  readonly annotations?: JsonObject;
  readonly version?: string;
  run(input: Arguments): Promise<unknown>;
}

/** A tool of the old form. */
export interface LegacyTool {
  readonly name: string;
  readonly description?: string;
  /** One entry for each parameter, or a schema. */
  readonly parameters?: JsonObject;
  /** Answers text; may throw. */
  execute(parameters: Arguments): unknown;
}

/** A tool of the old form that answers later. */
export interface AsyncLegacyTool extends LegacyTool {
  execute(parameters: Arguments): Promise<string>;
}

/** A call of the old form. */
export interface LegacyCall {
  readonly name: string;
  readonly arguments: string | Arguments;
}

/** How a call of the old form went; `content` is what the old side stores. */
export interface LegacyResult {
  readonly name: string;
  readonly content: string;
  readonly isError: boolean;
}

/** What may be expected of a tool; an old one says nothing, so the careful answer is given. */
export interface ToolCapabilities {
  readonly form: "legacy" | "new";
  /** Its output may be something else than text. */
  readonly structuredOutput: boolean;
  readonly readOnly: boolean;
  readonly destructive: boolean;
  /** May be called beside others, and again after no answer. */
  readonly parallel: boolean;
  readonly version: string | null;
}

interface Outcome {
  readonly output: unknown;
  readonly isError: boolean;
}

export class ToolCompatibilityWrapper {
  readonly #tools: ReadonlyMap<string, Tool | LegacyTool>;
  readonly #meter: ToolMeter;

  /** @param options.now milliseconds of a clock that never goes back */
  constructor(
    tools: readonly (Tool | LegacyTool)[],
    { now = () => performance.now() }: { readonly now?: () => number } = {},
  ) {
    this.#tools = new Map(tools.map((tool) => [tool.name, tool]));
    this.#meter = new ToolMeter(now);
  }

  /** Describes all tools in the old form: one entry per parameter, `required` on each. */
  describe(): readonly JsonObject[] {
    return [...this.#tools.values()].map((tool) => {
      const shown = show(legacy, "tool", definitionOf(tool));
      // The old side never saw a new tool without one.
      return isLegacy(tool) ? shown : { name: tool.name, description: "", ...shown };
    });
  }

  /** Describes all tools in the new form, as they are stored and exported to providers. */
  definitions(): readonly ToolDefinition[] {
    return [...this.#tools.values()].map(definitionOf);
  }

  /** Calls a tool from the old side. Never throws: that side knows errors only as text. */
  async call({ name, arguments: given }: LegacyCall): Promise<LegacyResult> {
    const { output, isError } = await this.#call(name, readArguments(given));
    return { name, content: textOf(output), isError };
  }

  /**
   * Calls a tool from the new side and returns the block of the result. Never throws.
   *
   * @param call a block of type `tool_call`
   */
  async run(call: JsonObject): Promise<JsonObject> {
    const { tool_call_id, name } = call;
    const input = isObject(call.input) ? call.input : undefined;
    const { output, isError } = await this.#call(String(name), input);
    return { type: "tool_result", tool_call_id, name, output: output ?? null, is_error: isError };
  }

  /** Returns all tools in the new form, old ones too: each can be run where new ones are. */
  tools(): readonly Tool[] {
    return [...this.#tools.values()].map((tool) => ({
      ...definitionOf(tool),
      run: (input: Arguments) => this.#run(tool, input),
    }));
  }

  /** Returns all tools in the old form, new ones too: each answers text, and may throw. */
  legacyTools(): readonly AsyncLegacyTool[] {
    return this.describe().map((description) => {
      const name = String(description.name);
      return {
        ...description,
        name,
        execute: async (parameters: Arguments): Promise<string> => {
          const tool = this.#tools.get(name);
          if (tool === undefined) throw new Error(`There is no tool "${name}"`);
          return textOf(await this.#run(tool, parameters));
        },
      };
    });
  }

  /** Returns what was seen of a tool since this isolate began. */
  metrics(name: string): ToolMetrics {
    return this.#meter.metrics(name);
  }

  /** @throws {RangeError} if there is no such tool */
  capabilities(name: string): ToolCapabilities {
    const tool = this.#tools.get(name);
    if (tool === undefined) throw new RangeError(`There is no tool "${name}"`);
    const isOld = isLegacy(tool);
    const hints = isOld ? undefined : tool.annotations;
    const readOnly = own(hints, "read_only") === true;
    return {
      form: isOld ? "legacy" : "new",
      structuredOutput: !isOld,
      readOnly,
      destructive: !readOnly && own(hints, "destructive") !== false,
      parallel: readOnly || own(hints, "idempotent") === true,
      version: isOld ? null : tool.version ?? null,
    };
  }

  async #call(name: string, input: Arguments | undefined): Promise<Outcome> {
    const tool = this.#tools.get(name);
    // Not counted: a model may make up any number of names.
    if (tool === undefined) return failed(`There is no tool "${name}"`);
    if (input === undefined) {
      this.#meter.refuse(name);
      return failed(`The arguments of "${name}" are not an object`);
    }
    try {
      return { output: await this.#run(tool, input), isError: false };
    } catch (error) {
      return failed(error instanceof Error ? error.message : String(error));
    }
  }

  #run(tool: Tool | LegacyTool, input: Arguments): Promise<unknown> {
    return this.#meter.measure(tool.name, () => invoke(tool, input));
  }
}

function isLegacy(tool: Tool | LegacyTool): tool is LegacyTool {
  return "execute" in tool;
}

/** Returns what JSON keeps of a tool's output: another value could not be stored. */
async function invoke(tool: Tool | LegacyTool, input: Arguments): Promise<unknown> {
  const output = await (isLegacy(tool) ? tool.execute(input) : tool.run(input));
  if (typeof output === "string") return output;
  const text: string | undefined = JSON.stringify(output);
  return text === undefined ? null : JSON.parse(text);
}

function definitionOf(tool: Tool | LegacyTool): ToolDefinition {
  if (isLegacy(tool)) {
    const { execute: _, ...described } = tool;
    return put(legacy, "tool", described) as ToolDefinition;
  }
  const { run: _, ...definition } = tool;
  return definition as ToolDefinition;
}

function textOf(output: unknown): string {
  return typeof output === "string" ? output : canonical(output);
}

function readArguments(given: LegacyCall["arguments"]): Arguments | undefined {
  if (typeof given !== "string") return given;
  return given.trim() === "" ? {} : parseObject(given);
}

function failed(output: string): Outcome {
  return { output, isError: true };
}
