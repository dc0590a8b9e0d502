/**
 * Time as the parts of an isolate see it.
 *
 * @module
 */

/** A way to tell and to wait that tests replace. */
export interface Clock {
  /** Milliseconds that never go back. */
  now(): number;
  /** Calls back once after `ms`; returns a function that cancels. */
  after(ms: number, callback: () => void): () => void;
}

/** Measures with the monotonic clock, so a corrected wall clock ages nothing. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
