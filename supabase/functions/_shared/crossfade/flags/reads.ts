/**
 * When the database is read, and how often: one back-off for every reason to read.
 *
 * @module
 */

import { StoreError } from "../http/store_error.ts";
import type { Defaulted, ReadFailure } from "./flags_options.ts";

/** At most one read a second, whatever the reason and the traffic. */
const READ_EVERY_MS = 1_000;
/** What an operator announces is read at once, however recently something else was read. */
const ANNOUNCED_EVERY_MS = 100;

export interface ReadsOptions
  extends Pick<Defaulted, "clock" | "readTimeoutMs" | "background" | "log"> {
  /** Asks the database; must stop when the signal does. */
  readonly ask: (signal: AbortSignal) => Promise<unknown>;
  /** Keeps an answer of a read that began at a time; throws for what is none, or an older one. */
  readonly take: (answer: unknown, startedAt: number) => void;
  /** Called when reads work again. */
  readonly onRecovery: () => void;
  /** Longest wait between two tries, in milliseconds. */
  readonly longestWaitMs: () => number;
}

/** Reads one at a time. A read goes on when nobody waits any more, and its late answer is kept. */
export class Reads {
  readonly #options: ReadsOptions;
  #flight: Promise<void> | undefined;
  #startedAt = -Infinity;
  /** Somebody said that something changed, and no read has begun since. */
  #hinted = false;
  #failures = 0;
  #failure: ReadFailure | undefined;
  /** When the next read may begin, whoever asks for it. */
  #nextAt = -Infinity;
  #cancelLater: (() => void) | undefined;

  constructor(options: ReadsOptions) {
    this.#options = options;
  }

  /** Why the last read failed; `undefined` when it did not. */
  get failure(): ReadFailure | undefined {
    return this.#failure;
  }

  /** True while something is said to have changed that no read has begun since. */
  get isHinted(): boolean {
    return this.#hinted;
  }

  /** Reads if it is not too early. */
  begin(): void {
    this.#start(this.#nextAt);
  }

  /** Reads as soon as the back-off allows it. */
  hint(): void {
    this.#hinted = true;
    this.begin();
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

  /** Starts a read unless it is too early or one runs; returns whether a new one was started. */
  #start(earliest: number): boolean {
    if (this.#flight !== undefined || this.#options.clock.now() < earliest) return false;
    this.#flight = this.#read();
    // An isolate is kept alive for an answer that comes after the request that wanted it.
    this.#options.background(this.#flight);
    return true;
  }

  /** Waits for a read, at most `ms` from its beginning on; `undefined` when there is nothing to wait for. */
  wait(ms: number): Promise<void> | undefined {
    this.begin();
    const { clock } = this.#options;
    const left = this.#startedAt + ms - clock.now();
    if (this.#flight === undefined || left <= 0) return undefined;
    let cancel = (): void => {};
    const limit = new Promise<void>((resolve) => cancel = clock.after(left, resolve));
    return Promise.race([this.#flight, limit]).then(() => cancel());
  }

  async #read(): Promise<void> {
    const { clock } = this.#options;
    this.#hinted = false;
    this.#startedAt = clock.now();
    this.#nextAt = this.#startedAt + READ_EVERY_MS;
    try {
      this.#options.take(await this.#bounded(), this.#startedAt);
      const recovered = this.#failure !== undefined;
      this.#failures = 0;
      this.#failure = undefined;
      if (recovered) this.#options.onRecovery();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#flight = undefined;
    }
  }

  async #bounded(): Promise<unknown> {
    const { ask, clock, readTimeoutMs } = this.#options;
    const controller = new AbortController();
    let cancel = (): void => {};
    const limit = new Promise<never>((_, reject) => {
      cancel = clock.after(readTimeoutMs, () => {
        reject(new Error(`Cannot read flags: no answer within ${readTimeoutMs} ms`));
        controller.abort();
      });
    });
    try {
      return await Promise.race([ask(controller.signal), limit]);
    } finally {
      cancel();
    }
  }

  #fail(error: unknown): void {
    const { clock, log, longestWaitMs } = this.#options;
    const wait = Math.min(READ_EVERY_MS * 2 ** Math.min(this.#failures, 10), longestWaitMs());
    this.#failures += 1;
    this.#failure = { message: messageOf(error), isFatal: isFatal(error) };
    this.#nextAt = Math.max(this.#nextAt, clock.now() + wait);
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
