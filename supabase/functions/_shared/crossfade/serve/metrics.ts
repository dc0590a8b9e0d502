/**
 * Counts requests into the database after they have been answered.
 *
 * @module
 */

import type { Outcome, Version } from "../contract.ts";
import { type Clock, systemClock } from "../flags/clock.ts";
import type { FlagsDatabase } from "../flags/flags_options.ts";
import { isRow } from "../flags/snapshot.ts";

/** One entry of `record_requests`. */
export interface RequestEvent {
  readonly pair: string;
  readonly backend_version: Version;
  readonly wire_version: Version;
  readonly flag_set?: string;
  readonly outcome: Outcome;
  readonly latency_ms: number;
  readonly flags_version?: number;
  readonly count?: number;
  /** Keyed hash of who had a failure: see caller_hash.ts. */
  readonly caller?: number;
  /** What the isolate uses now, on at most one event of a batch. */
  readonly memory_bytes?: number;
  /** flags_version of the flags deployed with the function, 0 without; on one event of each pair. */
  readonly bundle_version?: number;
}

export interface RecorderOptions {
  readonly database: Pick<FlagsDatabase, "recordRequests">;
  readonly clock?: Clock;
  readonly background?: (work: Promise<unknown>) => void;
  /** Bytes this isolate uses, undefined where nobody knows; health rule R6 judges them. */
  readonly memory?: () => number | undefined;
  /** What `bundle_version` says of this function; the database asks for a newer one when it is old. */
  readonly bundleVersion?: number | undefined;
  /** Called with the version on the database's answer. */
  readonly onVersion?: (version: unknown) => void;
  /** Wait for more events before a batch is sent. @defaultValue 200 */
  readonly delayMs?: number;
  /** A batch this large is sent without waiting. @defaultValue 100 */
  readonly batchSize?: number;
  /** Events kept while the database cannot be reached; the oldest go first. @defaultValue 2000 */
  readonly capacity?: number;
  /** Longest wait for one call. @defaultValue 5000 */
  readonly timeoutMs?: number;
  readonly log?: (message: string, error: unknown) => void;
}

/** Bytes that this isolate uses; undefined where the runtime does not tell. */
export function isolateMemory(): number | undefined {
  const { memoryUsage } = Deno as { memoryUsage?: typeof Deno.memoryUsage };
  if (memoryUsage === undefined) return undefined;
  const { heapUsed, external } = memoryUsage();
  return heapUsed + external;
}

/** Batches events; `record` never throws, never waits, and never fails the request it counts. */
export class RequestRecorder {
  readonly #options: Required<Omit<RecorderOptions, "bundleVersion">> & RecorderOptions;
  #queue: RequestEvent[] = [];
  #flight: Promise<void> | undefined;
  #hurry: (() => void) | undefined;
  #dropped = 0;
  #failed = false;

  constructor(options: RecorderOptions) {
    this.#options = {
      clock: systemClock,
      background: (work) => void work.catch(() => {}),
      memory: () => undefined,
      onVersion: () => {},
      delayMs: 200,
      batchSize: 100,
      capacity: 2_000,
      timeoutMs: 5_000,
      log: (message, error) => console.error(message, error),
      ...options,
    };
  }

  /** Events lost because the database was away for too long. */
  get dropped(): number {
    return this.#dropped;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** Takes one event and makes sure that a batch is on its way. */
  record(event: RequestEvent): void {
    this.#queue.push(event);
    this.#trim();
    if (this.#queue.length >= this.#options.batchSize) this.#hurry?.();
    if (this.#flight !== undefined) return;
    this.#flight = this.#run().finally(() => {
      this.#flight = undefined;
    });
    this.#options.background(this.#flight);
  }

  /** Sends what is waiting at once: before an isolate ends, and in tests. */
  async flush(): Promise<void> {
    this.#hurry?.();
    await this.#flight;
  }

  async #run(): Promise<void> {
    // After a failure the events stay queued and the next request starts the next try.
    while (this.#queue.length > 0) {
      await this.#pause();
      const batch = this.#queue.splice(0, this.#options.batchSize);
      if (!await this.#send(batch)) return;
    }
  }

  #pause(): Promise<void> {
    if (this.#queue.length >= this.#options.batchSize) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(this.#options.delayMs, resolve);
      this.#hurry = () => {
        cancel();
        resolve();
      };
    });
  }

  /** The batch with what is true of the isolate now, not when an event that had to wait was kept. */
  #described(batch: readonly RequestEvent[]): readonly RequestEvent[] {
    const { memory, bundleVersion } = this.#options;
    const used = memory();
    const told = new Set<string>();
    return batch.map((event, place) => {
      const isFirstOfPair = !told.has(event.pair);
      told.add(event.pair);
      return {
        ...event,
        ...(place > 0 || used === undefined ? {} : { memory_bytes: used }),
        ...(isFirstOfPair && bundleVersion !== undefined ? { bundle_version: bundleVersion } : {}),
      };
    });
  }

  async #send(batch: readonly RequestEvent[]): Promise<boolean> {
    const { database, clock, timeoutMs, log, onVersion } = this.#options;
    const controller = new AbortController();
    const cancel = clock.after(timeoutMs, () => controller.abort());
    try {
      const answer = await database.recordRequests(this.#described(batch), controller.signal);
      if (isRow(answer)) onVersion(answer.flags_version);
      this.#failed = false;
      return true;
    } catch (error) {
      this.#queue = [...batch, ...this.#queue];
      this.#trim();
      if (!this.#failed) log("Cannot record requests; they are kept for the next batch", error);
      this.#failed = true;
      return false;
    } finally {
      cancel();
    }
  }

  #trim(): void {
    const excess = this.#queue.length - this.#options.capacity;
    if (excess <= 0) return;
    this.#queue.splice(0, excess);
    this.#dropped += excess;
  }
}
