/**
 * Compares what V1 answered with what V2 would have, after the response, in stage shadow.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import type { Message } from "./call.ts";
import { canonical } from "./canonical.ts";

// Keys travel in the address of the request.
const LARGEST_SAMPLE = 50;

export interface Comparison {
  readonly pair: string;
  readonly toV1: (row: Message) => Message;
  /** Reads those rows of a version that exist. */
  readonly read: (version: Version, rows: readonly Message[]) => Promise<readonly Message[]>;
  /** Text that names a row, the same in both versions. */
  readonly keyOf: (row: Message) => string;
}

/**
 * Compares rows of V1 with their counterparts.
 *
 * A difference is looked at a second time with both rows read anew, because somebody may have
 * written between the two reads. Never logs text, only keys and columns.
 *
 * @returns true if all agree, false if one differs, `undefined` if there was nothing to compare
 */
export async function compareTables(
  comparison: Comparison,
  rows: readonly Message[],
): Promise<boolean | undefined> {
  const sample = rows.slice(0, LARGEST_SAMPLE);
  if (sample.length === 0) return undefined;
  const { keyOf, read } = comparison;
  const others = byKey(keyOf, await read(2, sample));
  const suspects = sample
    .filter((row) => differing(comparison, row, others.get(keyOf(row))).length > 0);
  if (suspects.length === 0) return true;
  const [first, second] = await Promise.all([read(1, suspects), read(2, suspects)]);
  const now = { first: byKey(keyOf, first), second: byKey(keyOf, second) };
  let match = true;
  for (const key of suspects.map(keyOf)) {
    const columns = differing(comparison, now.first.get(key), now.second.get(key));
    if (columns.length === 0) continue;
    console.warn(`Shadow mismatch: ${comparison.pair} ${key}, columns ${columns.join(", ")}`);
    match = false;
  }
  return match;
}

function byKey(
  keyOf: Comparison["keyOf"],
  rows: readonly Message[],
): ReadonlyMap<string, Message> {
  return new Map(rows.map((row) => [keyOf(row), row]));
}

/** Names the columns of V1 that the projection of the V2 row does not agree with. */
function differing(
  { toV1 }: Comparison,
  row: Message | undefined,
  other: Message | undefined,
): string[] {
  if (row === undefined) return other === undefined ? [] : ["(row only in V2)"];
  if (other === undefined) return ["(row only in V1)"];
  const projected = toV1(other);
  return Object.keys(row).filter((name) =>
    name in projected && canonical(row[name]) !== canonical(projected[name])
  );
}
