/**
 * What PostgreSQL's jsonb takes, and reading text that may hold more than that.
 *
 * @module
 */

import { canonical, isObject, type JsonObject, setKey } from "./json.ts";

/**
 * Returns the object that a JSON text holds; `undefined` when it holds something else, nests deeper
 * than 512, or has what jsonb refuses.
 */
export function parseObject(text: string): JsonObject | undefined {
  if (!/^[ \t\n\r]*\{/.test(text) || isTooDeep(text)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value)) return undefined;
    return isHarmless(text) || cleaned(value) === value ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether nothing that jsonb refuses can stand in a JSON text; short of looking at the value. */
function isHarmless(text: string): boolean {
  // Infinity takes an exponent or more than 300 digits.
  return text.length < 300 && !/\\u|[0-9][eE]/.test(text) && text.isWellFormed();
}

const DEEPEST = 512;

function isTooDeep(text: string): boolean {
  // Looking at the length, then counting, is cheap and nearly always enough.
  if (text.length <= 2 * DEEPEST) return false;
  if (text.length - text.replaceAll(/[{[]/g, "").length <= DEEPEST) return false;
  let depth = 0;
  let deepest = 0;
  for (const [bracket] of text.replaceAll(/"(?:\\.|[^"\\])*"/gs, "").matchAll(/[{}[\]]/g)) {
    depth += bracket === "{" || bracket === "[" ? 1 : -1;
    deepest = Math.max(deepest, depth);
  }
  return deepest > DEEPEST;
}

/** Returns a JSON value that can be stored; the same one where it can be as it is. */
export function cleaned(value: unknown): unknown {
  return clean(value, DEEPEST);
}

function clean(value: unknown, room: number): unknown {
  if (typeof value === "string") return cleanText(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value !== "object" || value === null) return value;
  if (room === 0) return cleanText(canonical(value));
  if (Array.isArray(value)) {
    const items = value.map((item: unknown) => clean(item, room - 1));
    return items.every((item, place) => item === value[place]) ? value : items;
  }
  if (!isObject(value)) return value;
  const copied: Record<string, unknown> = {};
  let isSame = true;
  for (const key of Object.keys(value)) {
    const [name, item] = [cleanText(key), clean(value[key], room - 1)];
    isSame &&= name === key && item === value[key];
    setKey(copied, name, item);
  }
  return isSame ? value : copied;
}

function cleanText(text: string): string {
  const plain = text.includes("\0") ? text.replaceAll("\0", "\ufffd") : text;
  return plain.isWellFormed() ? plain : plain.toWellFormed();
}
