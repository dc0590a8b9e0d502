/**
 * Counts what flags answered, and reports it behind responses: feature adoption.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { Reason } from "../contract.ts";
import type { Defaulted } from "./flags_options.ts";
import { readCode } from "./rules.ts";
import { isRow, type Plan } from "./snapshot.ts";

/** One entry of `record_exposures`. */
export interface Exposure {
  readonly flag: string;
  readonly variant: "on" | "off";
  readonly reason: Reason;
  readonly count: number;
}

export interface ExposureOptions {
  /** Calls `record_exposures(batch)`; must stop when the signal does. */
  readonly send: (batch: readonly Exposure[], signal: AbortSignal) => Promise<unknown>;
  readonly clock: Clock;
  readonly background: (work: Promise<unknown>) => void;
  readonly log: (message: string, error: unknown) => void;
  /** Called with the version on the database's answer. */
  readonly onVersion: (version: unknown) => void;
  /** Wait for more answers before a report. @defaultValue 1000 */
  readonly delayMs?: number;
  /** Pause after a report that failed. @defaultValue 5000 */
  readonly retryMs?: number;
  /** Longest wait for one call. @defaultValue 5000 */
  readonly timeoutMs?: number;
}

const DEFAULTS = { delayMs: 1_000, retryMs: 5_000, timeoutMs: 5_000 };

/**
 * Adds up answers and reports the sums; `add` never throws and never waits.
 *
 * What is kept is bounded by the number of flags, whatever the traffic: sums and not events.
 */
export class ExposureRecorder {
  readonly #options: Required<ExposureOptions>;
  readonly #touched = new Set<Plan>();
  #unsent = new Map<string, Exposure>();
  #flight: Promise<void> | undefined;
  #hurry: (() => void) | undefined;
  #retryAt = 0;
  #failed = false;

  constructor(options: ExposureOptions) {
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Counts one answer. */
  add(plan: Plan, code: number): void {
    const { counts } = plan;
    const before = counts[code] ?? 0;
    counts[code] = before + 1;
    if (before === 0) this.#wake(plan);
  }

  /** Reports what has been counted at once: before an isolate ends, and in tests. */
  async flush(): Promise<void> {
    this.#retryAt = 0;
    this.#hurry?.();
    await this.#flight;
    if (this.#touched.size + this.#unsent.size === 0) return;
    this.#start();
    this.#hurry?.();
    await this.#flight;
  }

  #wake(plan: Plan): void {
    this.#touched.add(plan);
    if (this.#flight === undefined && this.#options.clock.now() >= this.#retryAt) this.#start();
  }

  #start(): void {
    this.#flight ??= this.#run().finally(() => {
      this.#flight = undefined;
    });
    this.#options.background(this.#flight);
  }

  async #run(): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(this.#options.delayMs, resolve);
      this.#hurry = () => {
        cancel();
        resolve();
      };
    });
    this.#hurry = undefined;
    await this.#report();
  }

  async #report(): Promise<void> {
    const { send, clock, timeoutMs, retryMs, log, onVersion } = this.#options;
    const batch = this.#collect();
    if (batch.length === 0) return;
    const controller = new AbortController();
    const cancel = clock.after(timeoutMs, () => controller.abort());
    try {
      const answer = await send(batch, controller.signal);
      if (isRow(answer)) onVersion(answer.flags_version);
      this.#failed = false;
    } catch (error) {
      for (const exposure of batch) this.#keep(exposure);
      this.#retryAt = clock.now() + retryMs;
      if (!this.#failed) log("Cannot record exposures; they are kept for the next report", error);
      this.#failed = true;
    } finally {
      cancel();
    }
  }

  /** Takes everything counted so far; counting goes on meanwhile. */
  #collect(): Exposure[] {
    for (const { flag, counts } of this.#touched) {
      counts.forEach((count, code) => {
        if (count === 0) return;
        const { value, reason } = readCode(code);
        this.#keep({ flag: flag.name, variant: value ? "on" : "off", reason, count });
      });
      counts.fill(0);
    }
    this.#touched.clear();
    const batch = [...this.#unsent.values()];
    this.#unsent = new Map();
    return batch;
  }

  #keep(exposure: Exposure): void {
    const key = `${exposure.variant} ${exposure.reason} ${exposure.flag}`;
    const count = exposure.count + (this.#unsent.get(key)?.count ?? 0);
    // The database takes nine digits; nobody waits for a report that long.
    this.#unsent.set(key, { ...exposure, count: Math.min(count, 999_999_999) });
  }
}

/** Makes the recorder of a client; `undefined` where nothing is counted. */
export function recorderOf(
  { database, captureExposures, clock, background, log }: Defaulted,
  onVersion: (version: unknown) => void,
): ExposureRecorder | undefined {
  if (!captureExposures || database.recordExposures === undefined) return undefined;
  const send = (batch: readonly unknown[], signal: AbortSignal): Promise<unknown> =>
    database.recordExposures?.(batch, signal) ?? Promise.resolve();
  return new ExposureRecorder({ send, clock, background, log, onVersion });
}
