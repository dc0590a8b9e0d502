/**
 * What the copy of the flags is made with.
 *
 * @module
 */

import { type Clock, systemClock } from "./clock.ts";
import type { Bootstrap } from "./environment.ts";
import type { Snapshot } from "./snapshot.ts";

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

/** The options with every default filled in; ages may come from settings of the copy. */
export type Defaulted =
  & Required<Omit<FlagsOptions, "softAgeMs" | "hardAgeMs">>
  & Pick<FlagsOptions, "softAgeMs" | "hardAgeMs">;

/** Ages of a copy in milliseconds: past which it is refreshed, and past which it is STALE. */
export interface Ages {
  readonly soft: number;
  readonly hard: number;
}

export const DEFAULT_AGES: Ages = { soft: 5_000, hard: 60_000 };

export function withDefaults(options: FlagsOptions): Defaulted {
  return {
    clock: systemClock,
    readTimeoutMs: 10_000,
    firstWaitMs: 5_000,
    waitMs: 500,
    captureExposures: true,
    background: (work) => void work.catch(() => {}),
    log: (message, error) => console.error(message, error),
    ...options,
  };
}

/** The ages that the options or the settings of a copy say. */
export function agesOf({ softAgeMs, hardAgeMs }: Defaulted, { settings }: Snapshot): Ages {
  const setting = (name: string): number | undefined => {
    const value = settings.get(name);
    return typeof value === "number" && value > 0 ? value : undefined;
  };
  return {
    soft: softAgeMs ?? setting("flags_soft_age_ms") ?? DEFAULT_AGES.soft,
    hard: hardAgeMs ?? setting("flags_hard_age_ms") ?? DEFAULT_AGES.hard,
  };
}
