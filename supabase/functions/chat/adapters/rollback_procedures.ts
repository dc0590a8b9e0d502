/**
 * The ways back: what each level does, and from which numbers on it is meant.
 *
 * Deciding is the monitor's work and acting the database's; here both are written down for code and
 * people at the edge, with the numbers read from the same settings.
 *
 * @module
 */

import { type Level, LEVELS } from "../../_shared/crossfade/contract.ts";

export interface Procedure {
  readonly level: Level;
  /** What `scope` names. */
  readonly scope: "flag" | "pair";
  /** What the database changes, in this order; no level touches rows of messages. */
  readonly actions: readonly string[];
}

export const PROCEDURES: Readonly<Record<Level, Procedure>> = {
  FEATURE: { level: "FEATURE", scope: "flag", actions: ["disable the flag"] },
  PARTIAL: { level: "PARTIAL", scope: "pair", actions: ["go back to the previous percentage"] },
  COMPLETE: {
    level: "COMPLETE",
    scope: "pair",
    actions: ["set the percentage to 0", "set the stage to shadow"],
  },
  EMERGENCY: {
    level: "EMERGENCY",
    scope: "pair",
    actions: [
      "engage emergency_rollback",
      "set the percentage to 0",
      "set the stage to shadow",
    ],
  },
};

/** Numbers at which a level is meant; rates are 0 to 1. */
export interface Thresholds {
  readonly emergencyStreak: number;
  readonly emergencyLowerBound: number;
  readonly completeErrorRate: number;
  readonly holdErrorRate: number;
  readonly minimumRequests: number;
}

/** Used only where the database has no such setting. */
const DEFAULTS = {
  r1k_streak: 6,
  r1s_lower_bound_rate: 0.3,
  r1_error_rate: 0.1,
  r2_error_rate: 0.05,
  r1_min_requests: 20,
} as const;

/** Reads the thresholds from the settings that came with the flags. */
export function readThresholds(settings: ReadonlyMap<string, unknown>): Thresholds {
  const read = (name: keyof typeof DEFAULTS): number => {
    const value = settings.get(name);
    return typeof value === "number" ? value : DEFAULTS[name];
  };
  return {
    emergencyStreak: read("r1k_streak"),
    emergencyLowerBound: read("r1s_lower_bound_rate"),
    completeErrorRate: read("r1_error_rate"),
    holdErrorRate: read("r2_error_rate"),
    minimumRequests: read("r1_min_requests"),
  };
}

/** What an isolate has seen of backend 2. */
export interface Observation {
  readonly requests: number;
  readonly errors: number;
  /** Errors since the last success. */
  readonly streak: number;
}

/**
 * Suggests a level for what was seen, or `undefined` when nothing speaks for going back.
 *
 * A suggestion only: one isolate sees a part of the traffic, so the monitor's rules decide.
 */
export function suggestLevel(seen: Observation, thresholds: Thresholds): Level | undefined {
  if (seen.streak >= thresholds.emergencyStreak) return "EMERGENCY";
  if (seen.requests < thresholds.minimumRequests) return undefined;
  const rate = seen.errors / seen.requests;
  if (rate >= thresholds.completeErrorRate) return "COMPLETE";
  return rate >= thresholds.holdErrorRate ? "PARTIAL" : undefined;
}

/** Returns the levels from `level` upwards: what may follow when it was not enough. */
export function escalation(level: Level): readonly Level[] {
  return LEVELS.slice(LEVELS.indexOf(level));
}
