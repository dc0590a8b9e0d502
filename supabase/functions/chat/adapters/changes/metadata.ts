/**
 * Metadata: V1 keys that have a place of their own in V2, and the others.
 *
 * @module
 */

import { hasOnly, isCount, isObject, type JsonObject, own, ownText, without } from "./json.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TOKENS = [
  ["prompt", "input_tokens"],
  ["completion", "output_tokens"],
  ["total", "total_tokens"],
] as const;

/** Returns V1 `metadata.tokens` that shows a V2 usage; `undefined` when nothing is to be shown. */
export function tokensOf(usage: unknown): JsonObject | undefined {
  const counts = TOKENS.map(([key, column]) => [key, own(usage, column)] as const)
    .filter(([, count]) => isCount(count));
  return counts.length === 0 ? undefined : Object.fromEntries(counts);
}

/** Returns a V2 usage that shows these tokens and keeps what V1 cannot show. */
export function putTokens(usage: unknown, tokens: unknown): JsonObject | null {
  const kept = isObject(usage) ? without(usage, TOKENS.map(([, column]) => column)) : {};
  const counts = TOKENS.map(([key, column]) => [column, own(tokens, key)] as const)
    .filter(([, count]) => count !== undefined);
  const put = { ...kept, ...Object.fromEntries(counts) };
  return Object.keys(put).length === 0 ? null : put;
}

function isCall(value: unknown): boolean {
  return isObject(value) && hasOnly(value, ["name", "arguments"]) &&
    ownText(value, "name") !== undefined && ownText(value, "arguments") !== undefined;
}

function isToolCall(value: unknown): boolean {
  return isObject(value) && hasOnly(value, ["id", "type", "function"]) &&
    ownText(value, "id") !== undefined && own(value, "type") === "function" &&
    isCall(own(value, "function"));
}

function isAttachment(value: unknown): boolean {
  if (!isObject(value) || !hasOnly(value, ["url", "name", "content_type", "size"])) return false;
  const { url, name = "", content_type = "", size = 0 } = value;
  return [url, name, content_type].every(isText) && isCount(size);
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isListOf(value: unknown, isElement: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isElement);
}

const SHAPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  model: isText,
  finish_reason: isText,
  reasoning: isText,
  error: isText,
  tool_call_id: isText,
  name: isText,
  parent_id: (value) => typeof value === "string" && UUID.test(value),
  // false would come back as an absent key.
  edited: (value) => value === true,
  tokens: (value) =>
    isObject(value) && Object.keys(value).length > 0 &&
    hasOnly(value, TOKENS.map(([key]) => key)) && Object.values(value).every(isCount),
  function_call: isCall,
  tool_calls: (value) => isListOf(value, isToolCall),
  images: (value) => isListOf(value, isText),
  attachments: (value) => isListOf(value, isAttachment),
};

/** Whether a V1 metadata value has exactly the shape that V2 can hold and give back. */
export function isRecognised(key: string, value: unknown): boolean {
  return Object.hasOwn(SHAPES, key) && (SHAPES[key]?.(value) ?? false);
}

/** The keys of a V2 metadata that V2 has no place for. */
export interface FreeKeys {
  /** V2's own. */
  readonly free: ReadonlyMap<string, unknown>;
  /** V1's, kept in `metadata.legacy`. */
  readonly legacy: ReadonlyMap<string, unknown>;
}

/** Takes a V2 metadata apart. */
export function splitMetadata(metadata: unknown): FreeKeys {
  const all = new Map(isObject(metadata) ? Object.entries(metadata) : []);
  const legacy = all.get("legacy");
  // A key named legacy that is not an object is V2's own; like a kept one it shows as itself.
  if (!isObject(legacy)) {
    const kept = new Map(all.has("legacy") ? [["legacy", legacy]] : []);
    all.delete("legacy");
    return { free: all, legacy: kept };
  }
  all.delete("legacy");
  return { free: all, legacy: new Map(Object.entries(legacy)) };
}

/** Puts a V2 metadata together. */
export function joinMetadata({ free, legacy }: FreeKeys): JsonObject {
  const kept = legacy.size === 0 ? [] : [["legacy", Object.fromEntries(legacy)] as const];
  return Object.fromEntries([...free, ...kept]);
}

/** Returns both kinds of keys with one of them changed; `undefined` removes it. */
export function putKey({ free, legacy }: FreeKeys, key: string, value: unknown): FreeKeys {
  const changed = { free: new Map(free), legacy: new Map(legacy) };
  changed.legacy.delete(key);
  if (value === undefined) changed.free.delete(key);
  // A key that V2 has of its own stays there; rating has no column but belongs to V2 as well.
  else if (free.has(key) || key === "rating") changed.free.set(key, value);
  else changed.legacy.set(key, value);
  return changed;
}
