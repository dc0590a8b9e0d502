/**
 * Types of old tool descriptions that JSON Schema does not have.
 *
 * @module
 */

import { isObject, type JsonObject, setKey } from "../adapters/changes/json.ts";

/** Beside a type that stands for another one: the name it had. */
export const LEGACY_TYPE = "x-legacy-type";

const JSON_TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];

/** What JSON Schema calls them. Every name that is not here, such as `any`, allows any value. */
const LEGACY_TYPES = new Map([
  ["dict", "object"],
  ["Dict", "object"],
  ["HashMap", "object"],
  ["Object", "object"],
  ["list", "array"],
  ["List", "array"],
  ["tuple", "array"],
  ["Array", "array"],
  ["ArrayList", "array"],
  ["str", "string"],
  ["String", "string"],
  ["char", "string"],
  ["int", "integer"],
  ["long", "integer"],
  ["Integer", "integer"],
  ["float", "number"],
  ["double", "number"],
  ["Number", "number"],
  ["bool", "boolean"],
  ["Boolean", "boolean"],
]);

const MAPS = new Set(["properties", "patternProperties", "$defs", "definitions"]);
const SCHEMAS = new Set([
  "items",
  "prefixItems",
  "additionalProperties",
  "contains",
  "not",
  "if",
  "then",
  "else",
  "allOf",
  "anyOf",
  "oneOf",
]);
// A schema that nests deeper is passed on as it is below.
const DEEPEST = 256;

type Visit = (schema: JsonObject) => JsonObject;

/** Returns a schema with JSON Schema's types; the old ones are kept beside them. */
export function fromLegacySchema(schema: JsonObject): JsonObject {
  return walk(schema, readTypes);
}

/** Returns a schema with the old types put back, where nobody has changed the type since. */
export function toLegacySchema(schema: JsonObject): JsonObject {
  return walk(schema, writeTypes);
}

/** Returns a schema without the old types: strict modes refuse words they do not know. */
export function withoutLegacyTypes(schema: JsonObject): JsonObject {
  return walk(schema, dropTypes);
}

function walk(schema: JsonObject, visit: Visit, depth = 0): JsonObject {
  if (depth > DEEPEST) return schema;
  const visited = visit(schema);
  const into: Visit = (inner) => walk(inner, visit, depth + 1);
  const result: Record<string, unknown> = {};
  for (const key of Object.keys(visited)) setKey(result, key, walkInto(key, visited[key], into));
  return result;
}

function walkInto(key: string, value: unknown, into: Visit): unknown {
  if (MAPS.has(key) && isObject(value)) {
    const map: Record<string, unknown> = {};
    for (const name of Object.keys(value)) {
      const inner = value[name];
      setKey(map, name, isObject(inner) ? into(inner) : inner);
    }
    return map;
  }
  if (!SCHEMAS.has(key)) return value;
  if (Array.isArray(value)) return value.map((inner) => isObject(inner) ? into(inner) : inner);
  return isObject(value) ? into(value) : value;
}

function isJsonType(type: unknown): boolean {
  return JSON_TYPES.includes(String(type)) && typeof type === "string";
}

/** Returns JSON Schema's name; `undefined` for one that allows anything. */
function jsonType(type: unknown): unknown {
  if (Array.isArray(type)) {
    const types = type.map(jsonType);
    return types.includes(undefined) ? undefined : types;
  }
  return isJsonType(type) ? type : LEGACY_TYPES.get(String(type));
}

function isLegacyType(type: unknown): boolean {
  if (Array.isArray(type)) return type.some(isLegacyType);
  return typeof type === "string" && !isJsonType(type);
}

function readTypes(schema: JsonObject): JsonObject {
  if (!isLegacyType(schema.type)) return schema;
  const result: Record<string, unknown> = {};
  for (const key of Object.keys(schema)) {
    if (key !== "type") {
      setKey(result, key, schema[key]);
      continue;
    }
    const type = jsonType(schema.type);
    if (type !== undefined) result.type = type;
    result[LEGACY_TYPE] = schema.type;
  }
  return result;
}

function writeTypes(schema: JsonObject): JsonObject {
  const legacy = schema[LEGACY_TYPE];
  if (legacy === undefined) return schema;
  const isUnchanged = String(schema.type) === String(jsonType(legacy));
  const result: Record<string, unknown> = {};
  for (const key of Object.keys(schema)) {
    // In the place of the type, or where there is none of what stands for it.
    const isPlace = key === "type" || key === LEGACY_TYPE && schema.type === undefined;
    if (isPlace && isUnchanged) result.type = legacy;
    else if (key !== LEGACY_TYPE) setKey(result, key, schema[key]);
  }
  return result;
}

function dropTypes(schema: JsonObject): JsonObject {
  if (schema[LEGACY_TYPE] === undefined) return schema;
  const { [LEGACY_TYPE]: _, ...rest } = schema;
  return rest;
}
