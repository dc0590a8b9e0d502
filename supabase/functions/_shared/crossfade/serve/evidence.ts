/**
 * Whose failure a failure is: what one caller's own input or row makes fail says nothing about a
 * backend.
 *
 * @module
 */

import type { Outcome } from "../contract.ts";
import { ConversionError } from "./convert.ts";
import { StoreError } from "../http/store_error.ts";

// How long a caller's own failure is remembered, and for how many callers.
const REMEMBERED_MS = 300_000;
const MOST_CALLERS = 1_000;

/**
 * Decides what failures count as.
 *
 * A value that V2 refuses and a row that a converter throws at look the same for one caller with odd
 * data as for a converter that is broken for everybody. They are told apart by the callers: the first
 * one's are his own, and from the second caller on they are the backend's.
 */
export class Evidence {
  readonly #seen = new Map<string, number>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Returns the outcome under which a failure is counted.
   *
   * @param outcome what it would be if the backend were at fault
   */
  judge(caller: string, error: unknown, outcome: Outcome): Outcome {
    if (!isOwn(error)) return outcome;
    const now = this.#now();
    for (const [other, at] of this.#seen) {
      if (at < now - REMEMBERED_MS) this.#seen.delete(other);
    }
    this.#seen.delete(caller);
    const isFirst = this.#seen.size === 0;
    if (this.#seen.size < MOST_CALLERS) this.#seen.set(caller, now);
    return isFirst ? "client_error" : outcome;
  }
}

/** Returns whether a failure may be of the caller's own making. */
function isOwn(error: unknown): boolean {
  return error instanceof ConversionError || (error instanceof StoreError && error.invalid);
}
