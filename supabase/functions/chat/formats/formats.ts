/**
 * Tools for a provider, under names that it takes.
 *
 * @module
 */

import type { JsonObject } from "../adapters/changes/json.ts";
import { own } from "../adapters/changes/json.ts";
import { show, type ToolFormat } from "./format.ts";
import { ToolNames } from "./names.ts";

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
