/**
 * What several formats do alike with the description of a tool.
 *
 * @module
 */

import { isObject, type JsonObject } from "../adapters/changes/json.ts";
import type { ToolDefinition } from "./format.ts";
import { withoutLegacyTypes } from "./schema.ts";

/** A tool without parameters takes an object without keys. */
export function emptySchema(): JsonObject {
  return { type: "object", properties: {} };
}

export function schemaOf(value: unknown): JsonObject {
  return isObject(value) ? value : emptySchema();
}

/** Returns the keys of an object that it has. */
export function present(value: JsonObject, keys: readonly string[]): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const key of keys) if (value[key] !== undefined) found[key] = value[key];
  return found;
}

/** Returns the schema for a provider; in strict mode only words that JSON Schema has. */
export function providerSchema({ input_schema, strict }: JsonObject): unknown {
  if (!isObject(input_schema)) return emptySchema();
  return strict === true ? withoutLegacyTypes(input_schema) : input_schema;
}

/** Returns a tool that only its own provider can run, such as a search of the web. */
export function providerTool(raw: JsonObject, provider: string): ToolDefinition {
  const name = typeof raw.name === "string" ? raw.name : String(raw.type);
  return { name, input_schema: emptySchema(), extras: { provider } };
}
