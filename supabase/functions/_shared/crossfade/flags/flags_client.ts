/**
 * The copy of flags that one isolate decides with.
 *
 * Requests read an immutable snapshot and never wait for the database, except the first ones and
 * those after the hard age, which wait a bounded time. The database enforces what must not be missed
 * (the fence), so an old copy costs a fallback and never a wrong write.
 *
 * @module
 */

import { combine } from "./environment.ts";
import { type ExposureRecorder, recorderOf } from "./exposures.ts";
import {
  type Ages,
  agesOf,
  type ChangeListener,
  type Defaulted,
  type FlagsOptions,
  type ReadFailure,
  withDefaults,
} from "./flags_options.ts";
import { KillSwitch } from "./kill_switch.ts";
import { Reads } from "./reads.ts";
import { isRow, parseSnapshot, type Snapshot } from "./snapshot.ts";
import { makeView, type View } from "./view.ts";

export type { View } from "./view.ts";

export class FlagsClient {
  readonly killSwitches: KillSwitch;
  /** Counts what views answer; `undefined` where nothing is counted. */
  readonly exposures: ExposureRecorder | undefined;
  readonly #options: Defaulted;
  readonly #listeners = new Set<ChangeListener>();
  #snapshot: Snapshot | undefined;
  #view: View;
  #staleView: View;
  #readAt = 0;
  #ages: Ages;
  readonly #reads: Reads;
  /** The newest version that anybody has spoken of, and when. */
  #wanted = 0;
  #wantedAt = 0;
  #conflicts = 0;

  constructor(options: FlagsOptions) {
    this.#options = withDefaults(options);
    this.exposures = recorderOf(this.#options, (version) => this.noteVersion(version));
    this.#view = this.#makeView(options.bootstrap.snapshot, false);
    this.#staleView = this.#view;
    this.killSwitches = new KillSwitch(this.#options.log);
    this.killSwitches.update(options.bootstrap.snapshot);
    this.#ages = agesOf(this.#options, options.bootstrap.snapshot);
    this.#reads = new Reads({
      ...this.#options,
      ask: (signal) => options.database.readFlags(this.#snapshot?.version ?? null, signal),
      take: (answer, startedAt) => this.#accept(answer, startedAt),
      onRecovery: () => this.#tell(this.#view.snapshot),
      longestWaitMs: () => this.#ages.soft,
    });
  }

  /**
   * Returns the flags to decide with: at once while the copy is younger than its hard age,
   * otherwise a promise that waits a bounded time for one read.
   */
  view(): View | Promise<View> {
    const { clock, firstWaitMs, waitMs } = this.#options;
    if (this.#snapshot === undefined) return this.#await(firstWaitMs);
    const age = clock.now() - this.#readAt;
    if (age < this.#ages.soft && !this.#reads.isHinted) return this.#view;
    if (age >= this.#ages.hard) return this.#await(waitMs);
    this.#reads.begin();
    return this.#view;
  }

  /** Returns the flags without reading anything: for code behind a response. */
  peek(): View {
    if (this.#snapshot === undefined) return this.#view;
    const age = this.#options.clock.now() - this.#readAt;
    return age < this.#ages.hard ? this.#view : this.#staleView;
  }

  /** Version of the copy; 0 until the database has been read. */
  get version(): number {
    return this.#snapshot?.version ?? 0;
  }

  /** True once the database has been read. */
  get isReady(): boolean {
    return this.#snapshot !== undefined;
  }

  /** True if the flag exists, or was deployed with the function while nothing has been read. */
  knows(flag: string): boolean {
    const plan = this.#view.snapshot.plans.get(flag);
    if (plan === undefined || this.isReady) return plan !== undefined;
    return plan.flag.stale === true ||
      this.#options.bootstrap.flags.some((row) => row.name === flag);
  }

  /**
   * How often the database gave an older copy than this isolate knows to exist: a replica that
   * lags, or a restored backup.
   */
  get conflicts(): number {
    return this.#conflicts;
  }

  /** Why the last read failed; `undefined` when it did not. */
  get failure(): ReadFailure | undefined {
    return this.#reads.failure;
  }

  /** True while reads fail and the copy, past its soft age, goes on answering. */
  get isBehind(): boolean {
    const age = this.#options.clock.now() - this.#readAt;
    return this.isReady && this.failure !== undefined && age >= this.#ages.soft;
  }

  /** Calls `listener` whenever a new copy is taken; returns a function that ends it. */
  subscribe(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Takes a version seen on any answer: a newer one is a hint. */
  noteVersion(version: unknown): void {
    if (this.#want(version)) this.hint();
  }

  /** Takes what a message says: an operator has changed something, so it is read at once. */
  announce(version?: unknown): void {
    if (version === undefined || this.#want(version)) this.refreshNow();
  }

  /** Somebody noticed that something may have changed: read as soon as the back-off allows it. */
  hint(): void {
    this.#reads.hint();
  }

  /** Reads at once: when an isolate begins, and when a change is announced. */
  refreshNow(): void {
    this.#reads.refreshNow();
  }

  /** Keeps a version in mind that is newer than all that is known. */
  #want(version: unknown): boolean {
    const number = typeof version === "string" && version !== "" ? Number(version) : version;
    if (typeof number !== "number" || !Number.isSafeInteger(number)) return false;
    if (number <= this.version || number <= this.#wanted) return false;
    this.#wanted = number;
    this.#wantedAt = this.#options.clock.now();
    return true;
  }

  #await(ms: number): View | Promise<View> {
    const waiting = this.#reads.wait(ms);
    return waiting === undefined ? this.peek() : waiting.then(() => this.peek());
  }

  /** Keeps an answer. @throws {Error} for what is none, and for one older than what is known */
  #accept(answer: unknown, startedAt: number): void {
    if (!isRow(answer)) throw new TypeError("Cannot read flags: the answer is not an object");
    if (answer.unchanged !== true) {
      const read = parseSnapshot(answer);
      // Not back in time, or a lagging replica would release a kill switch. A restored backup does
      // go back, and is believed once nothing newer has been heard for the hard age.
      const age = startedAt - this.#readAt;
      if (read.version < this.version && age < this.#ages.hard) {
        throw this.#conflict(this.version, read.version);
      }
      this.#replace(read);
    } else if (answer.flags_version !== this.#snapshot?.version) {
      throw new TypeError(
        "Cannot read flags: `unchanged` for a version this isolate does not have",
      );
    }
    // Counted from before the read: a change committed while it ran is not younger than that.
    this.#readAt = startedAt;
    // A version that nobody has given for so long was of a database that is no more.
    if (startedAt - this.#wantedAt >= this.#ages.hard) this.#wanted = 0;
    if (this.version < this.#wanted) throw this.#conflict(this.#wanted, this.version);
  }

  /** The database knows less than this isolate. */
  #conflict(known: number, answered: number): Error {
    this.#conflicts += 1;
    return new Error(
      `Cannot read flags: version ${known} is known, the database answers ${answered}`,
    );
  }

  #replace(read: Snapshot): void {
    const { snapshot, old } = combine(read, this.#options.bootstrap);
    const before = this.#view.snapshot;
    this.#snapshot = snapshot;
    this.#view = this.#makeView(snapshot, false);
    this.#staleView = this.#makeView(old, true);
    this.#ages = agesOf(this.#options, snapshot);
    this.killSwitches.update(snapshot);
    this.#tell(before);
  }

  #tell(before: Snapshot): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(this.#view.snapshot, before);
      } catch (error) {
        // The copy is taken already; whoever wanted to know must not make the read a failed one.
        this.#options.log("A listener for new flags failed", error);
      }
    }
  }

  #makeView(snapshot: Snapshot, stale: boolean): View {
    const ageMs = (): number => this.#options.clock.now() - this.#readAt;
    return makeView(snapshot, { stale, ageMs, tally: this.exposures });
  }
}
