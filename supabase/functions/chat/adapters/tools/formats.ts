/**
 * All formats of tools. One more is one more file and one more line.
 *
 * @module
 */

import type { JsonObject } from "../changes/json.ts";
import { own } from "../changes/json.ts";
import { anthropic } from "./anthropic.ts";
import { put, show, type ToolDefinition, type ToolFormat } from "./format.ts";
import { legacy } from "./legacy.ts";
import { ToolNames } from "./names.ts";
import { newFormat } from "./new.ts";
import { openaiChat } from "./openai_chat.ts";
import { openaiResponses } from "./openai_responses.ts";

export const TOOL_FORMATS: readonly ToolFormat[] = [
  legacy,
  newFormat,
  openaiChat,
  openaiResponses,
  anthropic,
];

/** Returns the aliases for tools, and for calls in the history of tools that are gone. */
export function namesOf(
  tools: readonly JsonObject[],
  calls: readonly JsonObject[] = [],
): ToolNames {
  return new ToolNames([...tools, ...calls].map(({ name }) => String(name)));
}

/**
 * Returns tools in another format. Tools that only another provider can run are left out.
 *
 * @param names if absent, made from the tools
 */
export function exportTools(
  format: ToolFormat,
  tools: readonly JsonObject[],
  names: ToolNames = namesOf(tools),
): JsonObject[] {
  return tools.filter((tool) => isRunnableBy(format, tool))
    .map((tool) => show(format, "tool", tool, names));
}

function isRunnableBy(format: ToolFormat, tool: JsonObject): boolean {
  const provider = own(tool.extras, "provider");
  return provider === undefined || provider === format.id || format.id === "new";
}

/**
 * Returns the stored form of tools.
 *
 * @param stored the tools as they are stored: what the format cannot show is taken from the one of
 * the same name
 */
export function importTools(
  format: ToolFormat,
  raws: readonly unknown[],
  stored: readonly JsonObject[] = [],
): ToolDefinition[] {
  const names = namesOf(stored);
  const bases = new Map(stored.map((tool) => [tool.name, tool]));
  return raws.map((raw) => {
    const base = bases.get(put(format, "tool", raw, { names }).name);
    return put(format, "tool", raw, { names, base }) as ToolDefinition;
  });
}
