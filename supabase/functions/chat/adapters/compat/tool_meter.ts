/**
 * Counts and times the calls of tools in this isolate.
 *
 * @module
 */

/** What has been seen of a tool. */
export interface ToolMetrics {
  readonly calls: number;
  readonly errors: number;
  /** Calls that did not reach the tool, because their arguments are not an object. */
  readonly invalidArguments: number;
  readonly totalMs: number;
  readonly longestMs: number;
}

const NOTHING_SEEN: ToolMetrics = {
  calls: 0,
  errors: 0,
  invalidArguments: 0,
  totalMs: 0,
  longestMs: 0,
};

export class ToolMeter {
  readonly #metrics = new Map<string, ToolMetrics>();
  readonly #now: () => number;

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Returns what was seen of a tool since this isolate began. */
  metrics(name: string): ToolMetrics {
    return this.#metrics.get(name) ?? NOTHING_SEEN;
  }

  /** Counts a call that did not reach the tool. */
  refuse(name: string): void {
    const before = this.metrics(name);
    this.#metrics.set(name, { ...before, invalidArguments: before.invalidArguments + 1 });
  }

  /** Runs a call and counts it; a failure is counted and passed on. */
  async measure<T>(name: string, work: () => Promise<T>): Promise<T> {
    const start = this.#now();
    let errors = 1;
    try {
      const value = await work();
      errors = 0;
      return value;
    } finally {
      const ms = this.#now() - start;
      // Read after the wait: other calls of the tool may have ended meanwhile.
      const before = this.metrics(name);
      this.#metrics.set(name, {
        ...before,
        calls: before.calls + 1,
        errors: before.errors + errors,
        totalMs: before.totalMs + ms,
        longestMs: Math.max(before.longestMs, ms),
      });
    }
  }
}
