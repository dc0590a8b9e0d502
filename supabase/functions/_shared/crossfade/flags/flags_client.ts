/**
 * The copy of flags that one isolate decides with.
 *
 * Requests read an immutable snapshot and never wait for the database, except the first ones and
 * those after the hard age, which wait a bounded time. A read goes on when nobody waits any more, and
 * its late answer is kept. The database enforces what must not be missed (the fence), so an old copy
 * costs a fallback and never a wrong write.
 *
 * @module
 */

import { type Clock, systemClock } from "./clock.ts";
import { type Bootstrap, engageSwitches } from "./environment.ts";
import { ExposureRecorder } from "./exposures.ts";
import { StoreError } from "../http/store_error.ts";
import { buildSnapshot, isRow, parseSnapshot, type Snapshot } from "./snapshot.ts";
import { KillSwitch } from "./kill_switch.ts";
import { makeView, type View } from "./view.ts";

export { type Clock, systemClock } from "./clock.ts";
export type { View } from "./view.ts";

/** What the edge needs from the database: functions of schema `crossfade`. */
export interface FlagsDatabase {
  /** Calls `read_flags(known_version)`; must stop when the signal does. */
  readFlags(knownVersion: number | null, signal: AbortSignal): Promise<unknown>;
  /** Calls `record_requests(batch)`. */
  recordRequests(batch: readonly unknown[], signal: AbortSignal): Promise<unknown>;
  /** Calls `record_exposures(batch)`; without it nothing is counted. */
  recordExposures?(batch: readonly unknown[], signal: AbortSignal): Promise<unknown>;
}

/** Why a read failed. */
export interface ReadFailure {
  readonly message: string;
  /** True for what does not pass by itself: a key that is refused, an engine that is not there. */
  readonly isFatal: boolean;
}

/**
 * Told of every new copy, after the kill switch handlers, and when reads work again: then both are the
 * same. What it throws is logged.
 */
export type ChangeListener = (snapshot: Snapshot, before: Snapshot) => void;

export interface FlagsOptions {
  readonly database: FlagsDatabase;
  readonly bootstrap: Bootstrap;
  readonly clock?: Clock;
  /**
   * Age at which a request starts a refresh behind itself.
   *
   * @defaultValue setting `flags_soft_age_ms` of the copy, else 5000
   */
  readonly softAgeMs?: number;
  /**
   * Age past which a copy is STALE.
   *
   * @defaultValue setting `flags_hard_age_ms` of the copy, else 60000
   */
  readonly hardAgeMs?: number;
  /** Longest time of one read. @defaultValue 10000 */
  readonly readTimeoutMs?: number;
  /** Longest wait of a request for the first read. @defaultValue 5000 */
  readonly firstWaitMs?: number;
  /** Longest wait of a request for a later read. @defaultValue 500 */
  readonly waitMs?: number;
  /** Counts what views answer, through `recordExposures`. @defaultValue true */
  readonly captureExposures?: boolean;
  /** Keeps the isolate alive for work behind a request, as EdgeRuntime.waitUntil does. */
  readonly background?: (work: Promise<unknown>) => void;
  readonly log?: (message: string, error: unknown) => void;
}

type Defaulted =
  & Required<Omit<FlagsOptions, "softAgeMs" | "hardAgeMs">>
  & Pick<FlagsOptions, "softAgeMs" | "hardAgeMs">;

interface Ages {
  readonly soft: number;
  readonly hard: number;
}

/** At most one read a second, whatever the reason and the traffic. */
const READ_EVERY_MS = 1_000;
/** What an operator announces is read at once, however recently something else was read. */
const ANNOUNCED_EVERY_MS = 100;
const DEFAULT_AGES: Ages = { soft: 5_000, hard: 60_000 };

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
  #ages = DEFAULT_AGES;
  #flight: Promise<void> | undefined;
  #startedAt = -Infinity;
  /** Somebody said that something changed, and no read has begun since. */
  #hinted = false;
  #wanted = 0;
  #wantedAt = 0;
  #conflicts = 0;
  #failures = 0;
  #failure: ReadFailure | undefined;
  /** When the next read may begin, whoever asks for it. */
  #nextAt = -Infinity;
  #cancelLater: (() => void) | undefined;

  constructor(options: FlagsOptions) {
    this.#options = {
      clock: systemClock,
      readTimeoutMs: 10_000,
      firstWaitMs: 5_000,
      waitMs: 500,
      captureExposures: true,
      background: (work) => void work.catch(() => {}),
      log: (message, error) => console.error(message, error),
      ...options,
    };
    this.exposures = makeRecorder(this.#options, (version) => this.noteVersion(version));
    this.#view = this.#makeView(options.bootstrap.snapshot, false);
    this.#staleView = this.#view;
    this.killSwitches = new KillSwitch(this.#options.log);
    this.killSwitches.update(options.bootstrap.snapshot);
    this.#ages = agesOf(this.#options, options.bootstrap.snapshot);
  }

  /**
   * Returns the flags to decide with: at once while the copy is younger than its hard age,
   * otherwise a promise that waits a bounded time for one read.
   */
  view(): View | Promise<View> {
    const { clock, firstWaitMs, waitMs } = this.#options;
    if (this.#snapshot === undefined) return this.#await(firstWaitMs);
    const age = clock.now() - this.#readAt;
    if (age < this.#ages.soft && !this.#hinted) return this.#view;
    if (age >= this.#ages.hard) return this.#await(waitMs);
    this.#start(this.#nextAt);
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
    return this.#failure;
  }

  /** True while reads fail and the copy, past its soft age, goes on answering. */
  get isBehind(): boolean {
    const age = this.#options.clock.now() - this.#readAt;
    return this.isReady && this.#failure !== undefined && age >= this.#ages.soft;
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
    this.#hinted = true;
    this.#start(this.#nextAt);
  }

  /** Reads at once: when an isolate begins, and when a change is announced. */
  refreshNow(): void {
    // A read in flight may have begun before the change was committed, and one that fails must be
    // made up for: so the hint stays until a read that began after it has succeeded.
    this.#hinted = true;
    const at = this.#failures > 0 ? this.#nextAt : this.#startedAt + ANNOUNCED_EVERY_MS;
    if (this.#start(at)) return;
    // Nobody may ask for a long time, and what is announced should not wait for that.
    const { clock } = this.#options;
    this.#cancelLater ??= clock.after(Math.max(at - clock.now(), ANNOUNCED_EVERY_MS), () => {
      this.#cancelLater = undefined;
      if (this.#hinted) this.refreshNow();
    });
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

  /** Starts a read unless it is too early or one runs; returns whether a new one was started. */
  #start(earliest: number): boolean {
    if (this.#flight !== undefined || this.#options.clock.now() < earliest) return false;
    this.#flight = this.#read();
    // An isolate is kept alive for an answer that comes after the request that wanted it.
    this.#options.background(this.#flight);
    return true;
  }

  /** Waits for the read in flight, at most `ms` from its beginning on. */
  #await(ms: number): View | Promise<View> {
    this.#start(this.#nextAt);
    const { clock } = this.#options;
    const left = this.#startedAt + ms - clock.now();
    if (this.#flight === undefined || left <= 0) return this.peek();
    let cancel = (): void => {};
    const limit = new Promise<void>((resolve) => cancel = clock.after(left, resolve));
    return Promise.race([this.#flight, limit]).then(() => {
      cancel();
      return this.peek();
    });
  }

  async #read(): Promise<void> {
    const { clock } = this.#options;
    this.#hinted = false;
    this.#startedAt = clock.now();
    this.#nextAt = this.#startedAt + READ_EVERY_MS;
    try {
      this.#accept(await this.#bounded(), this.#startedAt);
      if (this.version < this.#wanted) throw new Conflict(this.#wanted, this.version);
      const recovered = this.#failure !== undefined;
      this.#failures = 0;
      this.#failure = undefined;
      if (recovered) this.#tell(this.#view.snapshot);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#flight = undefined;
    }
  }

  async #bounded(): Promise<unknown> {
    const { database, clock, readTimeoutMs } = this.#options;
    const controller = new AbortController();
    let cancel = (): void => {};
    const limit = new Promise<never>((_, reject) => {
      cancel = clock.after(readTimeoutMs, () => {
        reject(new Error(`Cannot read flags: no answer within ${readTimeoutMs} ms`));
        controller.abort();
      });
    });
    try {
      const known = this.#snapshot?.version ?? null;
      return await Promise.race([database.readFlags(known, controller.signal), limit]);
    } finally {
      cancel();
    }
  }

  #accept(answer: unknown, startedAt: number): void {
    if (!isRow(answer)) throw new TypeError("Cannot read flags: the answer is not an object");
    if (answer.unchanged !== true) {
      const read = parseSnapshot(answer);
      // Not back in time, or a lagging replica would release a kill switch. A restored backup does
      // go back, and is believed once nothing newer has been heard for the hard age.
      const age = startedAt - this.#readAt;
      if (read.version < this.version && age < this.#ages.hard) {
        throw new Conflict(this.version, read.version);
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
  }

  #replace(read: Snapshot): void {
    const { flags, engaged } = this.#options.bootstrap;
    const killSwitches = engageSwitches(read.killSwitches.values(), engaged);
    const snapshot = buildSnapshot({
      ...read,
      flags: read.flags.values(),
      pairs: read.pairs.values(),
      killSwitches,
    });
    const old = buildSnapshot({
      ...snapshot,
      flags: [...snapshot.flags.values(), ...flags],
      killSwitches,
      pairs: snapshot.pairs.values(),
    });
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

  #fail(error: unknown): void {
    const { clock, log } = this.#options;
    const wait = Math.min(READ_EVERY_MS * 2 ** Math.min(this.#failures, 10), this.#ages.soft);
    this.#failures += 1;
    this.#failure = { message: messageOf(error), isFatal: isFatal(error) };
    this.#nextAt = Math.max(this.#nextAt, clock.now() + wait);
    if (error instanceof Conflict) this.#conflicts += 1;
    // The copy stays; the next request after the wait tries again.
    this.#hinted = true;
    if (this.#failures === 1 || this.#failures % 20 === 0) {
      log(`Cannot refresh flags (${this.#failures} in a row)`, messageOf(error));
    }
  }
}

function isFatal(error: unknown): boolean {
  return error instanceof StoreError && error.refused &&
    [401, 403, 404, 406].includes(error.status);
}

/** The text only: a stack of the HTTP library says nothing more about a database that is away. */
function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function agesOf({ softAgeMs, hardAgeMs }: Defaulted, { settings }: Snapshot): Ages {
  const setting = (name: string): number | undefined => {
    const value = settings.get(name);
    return typeof value === "number" && value > 0 ? value : undefined;
  };
  return {
    soft: softAgeMs ?? setting("flags_soft_age_ms") ?? DEFAULT_AGES.soft,
    hard: hardAgeMs ?? setting("flags_hard_age_ms") ?? DEFAULT_AGES.hard,
  };
}

function makeRecorder(
  { database, captureExposures, clock, background, log }: Defaulted,
  onVersion: (version: unknown) => void,
): ExposureRecorder | undefined {
  if (!captureExposures || database.recordExposures === undefined) return undefined;
  const send = (batch: readonly unknown[], signal: AbortSignal): Promise<unknown> =>
    database.recordExposures?.(batch, signal) ?? Promise.resolve();
  return new ExposureRecorder({ send, clock, background, log, onVersion });
}

/** The database knows less than this isolate. */
class Conflict extends Error {
  constructor(known: number, answered: number) {
    super(`Cannot read flags: version ${known} is known, the database answers ${answered}`);
  }
}
