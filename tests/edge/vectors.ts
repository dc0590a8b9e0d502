/**
 * Reads the hand-written vectors that all languages share.
 *
 * @module
 */

import { readFileSync } from "node:fs";

export interface Case {
  readonly name: string;
  readonly applies_to?: readonly string[];
  readonly input: Record<string, unknown>;
  readonly expect: Record<string, unknown>;
}

export interface Vectors {
  readonly defaults: Record<string, Record<string, unknown>>;
  readonly cases: readonly Case[];
}

export const VECTORS = new URL("../vectors/", import.meta.url);

/** Returns a vector file with the cases that apply to this language. */
export function readVectors(topic: string): Vectors {
  const text = readFileSync(new URL(`${topic}.json`, VECTORS), "utf8");
  const { defaults = {}, cases } = JSON.parse(text);
  const ours = cases.filter((item: Case) => item.applies_to?.includes("typescript") ?? true);
  return { defaults, cases: ours };
}
