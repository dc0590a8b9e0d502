/**
 * Compares what V1 answered with what V2 would have, after the response, in stage shadow.
 *
 * @module
 */

import type { Converter } from "./adapters/api_version_router.ts";
import { canonical } from "./canonical.ts";
import type { MessageStore } from "./store.ts";
import type { Message } from "./types.ts";

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
  if (rows.length === 0) return undefined;
  for (const row of rows) {
    const id = String(row.id);
    const counterpart = await tools.store.get(2, id);
    if (differing(tools.converter, row, counterpart).length === 0) continue;
    const [again, other] = [await tools.store.get(1, id), await tools.store.get(2, id)];
    if (again === undefined && other === undefined) continue;
    const columns = again === undefined
      ? ["(row only in V2)"]
      : differing(tools.converter, again, other);
    if (columns.length === 0) continue;
    console.warn(`Shadow mismatch: message ${id}, columns ${columns.join(", ")}`);
    return false;
  }
  return true;
}

/** Names the columns of V1 that the projection of the V2 row does not agree with. */
function differing(converter: Converter, row: Message, other: Message | undefined): string[] {
  if (other === undefined) return ["(row only in V1)"];
  const projected = converter.toV1(other);
  return Object.keys(row).filter((name) =>
    name in projected && canonical(row[name]) !== canonical(projected[name])
  );
}
