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

// Values nest as deep as somebody likes, and the stack does not: what is deeper comes after.
const DEEPEST_AT_ONCE = 256;

type Pair = readonly [unknown, unknown];

/** Compares two JSON values; the order of keys does not count, and -0 is 0. */
export function equal(first: unknown, second: unknown): boolean {
  if (first === second) return true;
  if (typeof first !== "object" || typeof second !== "object") return false;
  const later: Pair[] = [];
  if (!isEqual(first, second, { depth: 0, later })) return false;
  for (const [left, right] of later) {
    if (!isEqual(left, right, { depth: 0, later })) return false;
  }
  return true;
}

interface Level<T> {
  readonly depth: number;
  /** Parts that are too deep for now. */
  readonly later: T[];
}

function isEqual(first: unknown, second: unknown, { depth, later }: Level<Pair>): boolean {
  if (first === second) return true;
  if (depth > DEEPEST_AT_ONCE) return later.push([first, second]) > 0;
  const level = { depth: depth + 1, later };
  if (Array.isArray(first)) {
    return Array.isArray(second) && first.length === second.length &&
      first.every((item, place) => isEqual(item, second[place], level));
  }
  if (!isObject(first) || !isObject(second)) return false;
  const keys = Object.keys(first);
  return keys.length === Object.keys(second).length &&
    keys.every((key) => Object.hasOwn(second, key) && isEqual(first[key], second[key], level));
}

interface Place {
  readonly from: object;
  readonly to: unknown[] | Record<string, unknown>;
  readonly key: string;
}

/** Copies a JSON value, so that a result never shares parts with its input. */
export function copy<T>(value: T): T;
export function copy(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const later: Place[] = [];
  const copied = copyParts(value, 0, later);
  for (const { from, to, key } of later) {
    setKey(to as Record<string, unknown>, key, copyParts(from, 0, later));
  }
  return copied;
}

function copyParts(value: object, depth: number, later: Place[]): Place["to"] {
  if (Array.isArray(value)) {
    const list: unknown[] = [];
    for (let key = 0; key < value.length; key++) {
      const from: unknown = value[key];
      if (isDeep(from, depth)) later.push({ from, to: list, key: String(key) });
      list.push(copyPart(from, depth, later));
    }
    return list;
  }
  const copied: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    const from = (value as JsonObject)[key];
    if (isDeep(from, depth)) later.push({ from, to: copied, key });
    setKey(copied, key, copyPart(from, depth, later));
  }
  return copied;
}

function isDeep(value: unknown, depth: number): value is object {
  return depth > DEEPEST_AT_ONCE && typeof value === "object" && value !== null;
}

/** Returns the copy; of a part that is too deep, a place for it. */
function copyPart(value: unknown, depth: number, later: Place[]): unknown {
  if (typeof value !== "object" || value === null) return value;
  return depth > DEEPEST_AT_ONCE ? undefined : copyParts(value, depth + 1, later);
}

/**
 * Returns compact JSON text with the keys in jsonb's order (length in UTF-8 bytes, then bytes) and
 * numbers in plain decimals.
 */
export function canonical(value: unknown): string {
  return write(value, 0);
}

function write(value: unknown, depth: number): string {
  if (typeof value === "number") return decimal(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (depth > DEEPEST_AT_ONCE) return writeDeep(value);
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(",")}]`;
  const members = sortedKeys(value)
    .map((key) => `${JSON.stringify(key)}:${write(own(value, key), depth + 1)}`);
  return `{${members.join(",")}}`;
}

function sortedKeys(value: object): string[] {
  return Object.keys(value).sort(compareKeys);
}

/** Text that is finished, or a value that is still to be written. */
type Token = { readonly text: string } | { readonly value: unknown };

function writeDeep(whole: object): string {
  const written: string[] = [];
  const tokens: Token[] = [{ value: whole }];
  for (let token = tokens.pop(); token !== undefined; token = tokens.pop()) {
    if ("text" in token) written.push(token.text);
    else if (typeof token.value !== "object" || token.value === null) {
      written.push(write(token.value, 0));
    } else tokens.push(...tokensOf(token.value).reverse());
  }
  return written.join("");
}

function tokensOf(value: object): Token[] {
  const isList = Array.isArray(value);
  const keys = isList ? Object.keys(value) : sortedKeys(value);
  const parts = keys.flatMap((key, place): Token[] => [
    { text: (place === 0 ? "" : ",") + (isList ? "" : `${JSON.stringify(key)}:`) },
    { value: (value as JsonObject)[key] },
  ]);
  return [{ text: isList ? "[" : "{" }, ...parts, { text: isList ? "]" : "}" }];
}

/** Whether a JSON text is exactly {@link canonical} of the value that it holds. */
export function isCanonical(text: string, value: unknown): boolean {
  // JSON.stringify is several times quicker, and differs only by exponents and the order of keys.
  const written = JSON.stringify(value);
  if (EXPONENT.test(written)) return canonical(value) === text;
  if (written === text) return isInOrder(value);
  return written.length === text.length && canonical(value) === text;
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
