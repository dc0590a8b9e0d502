/**
 * What the compatibility layer needs from the database.
 *
 * @module
 */

import type { RpcCaller } from "../../../_shared/crossfade/serve/operator_rpc.ts";
import { isRow, type Row } from "../../../_shared/crossfade/flags/snapshot.ts";

export type { RpcCaller };

/**
 * Calls a function that answers an object.
 *
 * @throws {TypeError} if it answers something else
 */
export async function callForRow(
  rpc: RpcCaller,
  name: string,
  parameters: Readonly<Record<string, unknown>>,
): Promise<Row> {
  const answer = await rpc.call(name, parameters);
  if (isRow(answer)) return answer;
  throw new TypeError(`Cannot read the answer of ${name}: it is not an object`);
}

/** Reads a whole number of an answer; what is absent counts as 0. */
export function count(row: Row, key: string): number {
  const value = row[key];
  return typeof value === "number" ? value : 0;
}
