/**
 * JSON values by what they mean to PostgreSQL's jsonb, so that SQL and TypeScript agree.
 *
 * @module
 */

/** A JSON object. Read it with {@link own}: it may have a key named like a method of Object. */
export type JsonObject = Readonly<Record<string, unknown>>;

const encoder = new TextEncoder();
const NON_ASCII = /[^\0-\x7f]/;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns the value of an own key of an object, and `undefined` of everything else. */
export function own(value: unknown, key: string): unknown {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

/**
 * Returns the value of a key that is written in the code. Unlike {@link own} it need not guard
 * against keys that every object inherits, which makes it several times quicker.
 */
export function field(value: unknown, key: string): unknown {
  return isObject(value) ? value[key] : undefined;
}

/** Returns {@link field} when it is text. */
export function textField(value: unknown, key: string): string | undefined {
  const found = isObject(value) ? value[key] : undefined;
  return typeof found === "string" ? found : undefined;
}

/** Sets a key, also one like "__proto__" that a plain assignment would take for something else. */
export function setKey(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key !== "__proto__") {
    target[key] = value;
    return;
  }
  const settings = { value, enumerable: true, configurable: true, writable: true };
  Object.defineProperty(target, key, settings);
}

/** Returns the object without some keys. */
export function without(value: JsonObject, keys: readonly string[]): Record<string, unknown> {
  const rest: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) setKey(rest, key, value[key]);
  }
  return rest;
}

/** Whether a value is a whole number from 0 to 2^53 - 1. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** Whether an object has exactly these keys or fewer. */
export function hasOnly(value: JsonObject, keys: readonly string[]): boolean {
  for (const key of Object.keys(value)) if (!keys.includes(key)) return false;
  return true;
}

/** Compares two JSON values; the order of keys does not count, and -0 is 0. */
export function equal(first: unknown, second: unknown): boolean {
  if (first === second) return true;
  if (Array.isArray(first)) {
    return Array.isArray(second) && first.length === second.length &&
      first.every((item, place) => equal(item, second[place]));
  }
  if (!isObject(first) || !isObject(second)) return false;
  const keys = Object.keys(first);
  return keys.length === Object.keys(second).length &&
    keys.every((key) => Object.hasOwn(second, key) && equal(first[key], second[key]));
}

/** Copies a JSON value, so that a result never shares parts with its input. */
export function copy<T>(value: T): T;
export function copy(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => copy(item));
  if (!isObject(value)) return value;
  const copied: Record<string, unknown> = {};
  for (const key of Object.keys(value)) setKey(copied, key, copy(value[key]));
  return copied;
}

/**
 * Returns compact JSON text with the keys in jsonb's order (length in UTF-8 bytes, then bytes) and
 * numbers in plain decimals.
 */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "number") return decimal(value);
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.keys(value).sort(compareKeys)
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members.join(",")}}`;
}

/** Whether a JSON text is exactly {@link canonical} of the value that it holds. */
export function isCanonical(text: string, value: unknown): boolean {
  // JSON.stringify is several times quicker, and differs only by exponents and the order of keys.
  if (JSON.stringify(value) === text && !EXPONENT.test(text) && isInOrder(value)) return true;
  return canonical(value) === text;
}

const EXPONENT = /[0-9]e[+-][0-9]/;

function isInOrder(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isInOrder);
  if (!isObject(value)) return true;
  let before: string | undefined;
  for (const key of Object.keys(value)) {
    if (before !== undefined && compareKeys(before, key) > 0) return false;
    if (!isInOrder(value[key])) return false;
    before = key;
  }
  return true;
}

function compareKeys(first: string, second: string): number {
  if (!NON_ASCII.test(first) && !NON_ASCII.test(second)) {
    return first.length - second.length || (first < second ? -1 : 1);
  }
  const [left, right] = [encoder.encode(first), encoder.encode(second)];
  if (left.length !== right.length) return left.length - right.length;
  const place = left.findIndex((byte, index) => byte !== right[index]);
  return (left[place] ?? 0) - (right[place] ?? 0);
}

/** Writes a number without an exponent. */
function decimal(value: number): string {
  if (value === 0) return "0";
  const [digits = "", exponent] = String(value).split("e");
  if (exponent === undefined) return digits;
  const [whole = "", fraction = ""] = digits.replace("-", "").split(".");
  const sign = value < 0 ? "-" : "";
  const point = Number(exponent) + whole.length;
  const all = whole + fraction;
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${all}`;
  return sign + all.padEnd(point, "0");
}

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

/** Finds the first part of a value that jsonb refuses. */
export function findUnstorable(value: unknown): Unstorable | undefined {
  const reason = refusal(value);
  if (reason !== undefined) return { path: [], reason };
  if (Array.isArray(value)) {
    for (let place = 0; place < value.length; place++) {
      const found = findUnstorable(value[place]);
      if (found !== undefined) return { ...found, path: [place, ...found.path] };
    }
  } else if (isObject(value)) {
    for (const key of Object.keys(value)) {
      const wrong = refusal(key);
      const found = wrong === undefined
        ? findUnstorable(value[key])
        : { path: [], reason: `has a key that ${wrong}` };
      if (found !== undefined) return { ...found, path: [key, ...found.path] };
    }
  }
  return undefined;
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
