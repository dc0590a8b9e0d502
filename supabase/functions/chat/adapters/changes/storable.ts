/**
 * What PostgreSQL's jsonb takes, and reading text that may hold more than that.
 *
 * @module
 */

import { isObject, type JsonObject } from "./json.ts";

/**
 * Returns the object that a JSON text holds; `undefined` when it holds something else, nests deeper
 * than 512, or has what jsonb refuses.
 */
export function parseObject(text: string): JsonObject | undefined {
  if (!/^[ \t\n\r]*\{/.test(text) || isTooDeep(text)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value)) return undefined;
    return isHarmless(text) || findUnstorable(value) === undefined ? value : undefined;
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

/** Where a value cannot be stored, and why. */
export interface Unstorable {
  readonly path: readonly (string | number)[];
  readonly reason: string;
}

/** Finds the first part of a value that jsonb refuses; the outer parts come first. */
export function findUnstorable(value: unknown): Unstorable | undefined {
  const reason = refusal(value);
  if (reason !== undefined) return { path: [], reason };
  // A queue and not recursion: a value nests as deep as somebody likes.
  const queue: Part[] = [{ value, key: "", parent: undefined }];
  for (const part of queue) {
    if (typeof part.value !== "object" || part.value === null) continue;
    const isList = Array.isArray(part.value);
    for (const key of Object.keys(part.value)) {
      const inner = (part.value as JsonObject)[key];
      const wrong = isList ? undefined : refusal(key);
      const found = wrong === undefined ? refusal(inner) : `has a key that ${wrong}`;
      const child = { value: inner, key: isList ? Number(key) : key, parent: part };
      if (found !== undefined) return { path: pathTo(child), reason: found };
      if (typeof inner === "object" && inner !== null) queue.push(child);
    }
  }
  return undefined;
}

interface Part {
  readonly value: unknown;
  readonly key: string | number;
  readonly parent: Part | undefined;
}

function pathTo(part: Part): (string | number)[] {
  const path: (string | number)[] = [];
  for (let at: Part | undefined = part; at?.parent !== undefined; at = at.parent) path.push(at.key);
  return path.reverse();
}

function refusal(value: unknown): string | undefined {
  switch (typeof value) {
    case "string":
      if (value.includes("\0")) return "contains the character U+0000";
      return value.isWellFormed() ? undefined : "contains half of a surrogate pair";
    case "number":
      return Number.isFinite(value) ? undefined : "is not a finite number";
    case "boolean":
    case "object":
      return undefined;
    default:
      return `is ${typeof value}, which JSON does not have`;
  }
}
