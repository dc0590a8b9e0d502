/**
 * Compares what V1 answered with what V2 would have, after the response, in stage shadow.
 *
 * @module
 */

import type { Converter } from "../adapters/api_version_router.ts";
import { canonical } from "../../_shared/crossfade/serve/canonical.ts";
import type { MessageStore } from "./store.ts";
import type { Message } from "../types.ts";

// Ids travel in the address of the request.
const LARGEST_SAMPLE = 50;

/**
 * Compares rows of V1 with their counterparts.
 *
 * A difference is looked at a second time with both rows read anew, because somebody may have
 * written between the two reads. Never logs text, only ids and columns.
 *
 * @returns true if all agree, false if one differs, `undefined` if there was nothing to compare
 */
export async function compareTables(
  tools: { readonly store: MessageStore; readonly converter: Converter },
  rows: readonly Message[],
): Promise<boolean | undefined> {
  const sample = rows.slice(0, LARGEST_SAMPLE);
  if (sample.length === 0) return undefined;
  const ids = sample.map((row) => String(row.id));
  const others = byId(await tools.store.getMany(2, ids));
  const suspects = sample
    .filter((row) => differing(tools.converter, row, others.get(String(row.id))).length > 0)
    .map((row) => String(row.id));
  if (suspects.length === 0) return true;
  const [first, second] = await Promise.all([
    tools.store.getMany(1, suspects),
    tools.store.getMany(2, suspects),
  ]);
  return agree(tools.converter, suspects, { first: byId(first), second: byId(second) });
}

function agree(
  converter: Converter,
  ids: readonly string[],
  rows: { readonly first: Rows; readonly second: Rows },
): boolean {
  let match = true;
  for (const id of ids) {
    const columns = differing(converter, rows.first.get(id), rows.second.get(id));
    if (columns.length === 0) continue;
    console.warn(`Shadow mismatch: message ${id}, columns ${columns.join(", ")}`);
    match = false;
  }
  return match;
}

type Rows = ReadonlyMap<string, Message>;

function byId(rows: readonly Message[]): Rows {
  return new Map(rows.map((row) => [String(row.id), row]));
}

/** Names the columns of V1 that the projection of the V2 row does not agree with. */
function differing(
  converter: Converter,
  row: Message | undefined,
  other: Message | undefined,
): string[] {
  if (row === undefined) return other === undefined ? [] : ["(row only in V2)"];
  if (other === undefined) return ["(row only in V1)"];
  const projected = converter.toV1(other);
  return Object.keys(row).filter((name) =>
    name in projected && canonical(row[name]) !== canonical(projected[name])
  );
}
