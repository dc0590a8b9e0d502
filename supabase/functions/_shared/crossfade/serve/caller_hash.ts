/**
 * Who had a failure, without saying who: the health rules count distinct callers.
 *
 * @module
 */

import { createHmac } from "node:crypto";

/** Makes of a user's id a number from 0 to 4095; the same in every isolate that has the key. */
export type HashCaller = (userId: string) => number;

/**
 * Returns a keyed hash of 12 bits: enough to tell two callers apart, too little to name one.
 *
 * @param key any secret of the project; another one makes other numbers
 */
export function callerHash(key: string): HashCaller {
  return (userId) =>
    createHmac("sha256", key).update(`crossfade caller ${userId}`).digest().readUInt16BE(0) >> 4;
}
