/**
 * Equality of JSON values in every generation of Deno.
 *
 * @module
 */

import assert from "node:assert/strict";

/** Asserts that two values are the same JSON; an absent key differs from one that is undefined. */
export function same(actual: unknown, expected: unknown): void {
  // Deno 2.1 compares what a key "constructor" holds by identity, so its deepEqual is only for the text.
  if (text(actual) !== text(expected)) assert.deepEqual(actual, expected);
}

function text(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (item === undefined) return { undefined: true };
    if (Object.is(item, -0)) return { negative: 0 };
    if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
    return Object.entries(item).toSorted(([a], [b]) => a < b ? -1 : 1);
  });
}
