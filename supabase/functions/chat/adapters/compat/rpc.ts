/**
 * What the compatibility layer needs from the database.
 *
 * @module
 */

import { isRow, type Row } from "../../../_shared/crossfade/flags/snapshot.ts";

/** Calls one function of schema `crossfade` and returns its answer. */
export interface RpcCaller {
  call(name: string, parameters: Readonly<Record<string, unknown>>): Promise<unknown>;
}

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
