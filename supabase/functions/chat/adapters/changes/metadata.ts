/**
 * Metadata: V1 keys that have a place of their own in V2, and the others.
 *
 * @module
 */

import {
  copy,
  field,
  hasOnly,
  isCount,
  isObject,
  type JsonObject,
  own,
  setKey,
  textField,
  without,
} from "./json.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TOKENS = [
  ["prompt", "input_tokens"],
  ["completion", "output_tokens"],
  ["total", "total_tokens"],
] as const;
const TOKEN_COLUMNS = TOKENS.map(([, column]) => column);

/** Returns V1 `metadata.tokens` that shows a V2 usage; `undefined` when nothing is to be shown. */
export function tokensOf(usage: unknown): JsonObject | undefined {
  if (!isObject(usage)) return undefined;
  let tokens: Record<string, unknown> | undefined;
  for (const [key, column] of TOKENS) {
    if (isCount(usage[column])) (tokens ??= {})[key] = usage[column];
  }
  return tokens;
}

/** Returns a V2 usage that shows these tokens and keeps what V1 cannot show. */
export function putTokens(usage: unknown, tokens: unknown): JsonObject | null {
  // A count that V1 never showed is not what its client took away.
  const put = isObject(usage)
    ? without(usage, TOKEN_COLUMNS.filter((column) => isCount(usage[column])))
    : {};
  for (const [key, column] of TOKENS) {
    const count = field(tokens, key);
    if (count !== undefined) put[column] = count;
  }
  return Object.keys(put).length === 0 ? null : put;
}

function isCall(value: unknown): boolean {
  return isObject(value) && hasOnly(value, ["name", "arguments"]) &&
    textField(value, "name") !== undefined && textField(value, "arguments") !== undefined;
}

function isToolCall(value: unknown): boolean {
  return isObject(value) && hasOnly(value, ["id", "type", "function"]) &&
    textField(value, "id") !== undefined && field(value, "type") === "function" &&
    isCall(field(value, "function"));
}

function isAttachment(value: unknown): boolean {
  if (!isObject(value) || !hasOnly(value, ["url", "name", "content_type", "size"])) return false;
  const { url, name = "", content_type = "", size = 0 } = value;
  return [url, name, content_type].every(isText) && isCount(size);
}

function isTokens(value: unknown): boolean {
  if (!isObject(value)) return false;
  let counts = 0;
  for (const [key] of TOKENS) {
    if (isCount(value[key])) counts += 1;
  }
  // As many counts as keys: there is no other key, and none that is no count.
  return counts > 0 && counts === Object.keys(value).length;
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isListOf(value: unknown, isElement: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isElement);
}

const SHAPES = new Map<string, (value: unknown) => boolean>(Object.entries({
  model: isText,
  finish_reason: isText,
  reasoning: isText,
  error: isText,
  tool_call_id: isText,
  name: isText,
  parent_id: (value: unknown) => typeof value === "string" && UUID.test(value),
  // false would come back as an absent key.
  edited: (value: unknown) => value === true,
  tokens: isTokens,
  function_call: isCall,
  tool_calls: (value: unknown) => isListOf(value, isToolCall),
  images: (value: unknown) => isListOf(value, isText),
  attachments: (value: unknown) => isListOf(value, isAttachment),
}));

/** Whether a V1 metadata value has exactly the shape that V2 can hold and give back. */
export function isRecognised(key: string, value: unknown): boolean {
  return SHAPES.get(key)?.(value) ?? false;
}

/** The keys of a V2 metadata that V2 has no other place for. */
export class FreeKeys {
  /** V2's own. */
  readonly #free: Record<string, unknown>;
  /** V1's, kept in `metadata.legacy`. */
  readonly #legacy: Record<string, unknown>;
  /** An empty `legacy` is V2's own, too. */
  readonly #hasEmptyLegacy: boolean;

  constructor(metadata: JsonObject) {
    this.#free = without(metadata, ["legacy"]);
    const legacy = own(metadata, "legacy");
    this.#legacy = isObject(legacy) ? without(legacy, []) : {};
    this.#hasEmptyLegacy = isObject(legacy) && Object.keys(legacy).length === 0;
    // A key named legacy that is not an object is V2's own; like a kept one it shows as itself.
    if (!isObject(legacy) && legacy !== undefined) this.#legacy.legacy = legacy;
  }

  /** Changes a key; `undefined` removes it. */
  put(key: string, value: unknown): void {
    // A key that V2 has of its own stays there; rating has no column but belongs to V2 as well.
    const isFree = Object.hasOwn(this.#free, key) || key === "rating";
    const [target, other] = isFree ? [this.#free, this.#legacy] : [this.#legacy, this.#free];
    if (Object.hasOwn(other, key)) delete other[key];
    if (value !== undefined) setKey(target, key, value);
    else if (Object.hasOwn(target, key)) delete target[key];
  }

  /** Returns the keys as V2 metadata. */
  toMetadata(): JsonObject {
    if (this.#hasEmptyLegacy || Object.keys(this.#legacy).length > 0) {
      this.#free.legacy = this.#legacy;
    }
    return this.#free;
  }
}

/** Returns a copy of a V2 metadata as V1 shows it: V2's own keys hide legacy ones. */
export function showFreeKeys(metadata: unknown): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  if (!isObject(metadata)) return shown;
  const { legacy } = metadata;
  if (isObject(legacy)) {
    for (const key of Object.keys(legacy)) setKey(shown, key, copy(legacy[key]));
  }
  for (const key of Object.keys(metadata)) {
    if (key !== "legacy" || !isObject(legacy)) setKey(shown, key, copy(metadata[key]));
  }
  return shown;
}
