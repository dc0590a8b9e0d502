/**
 * The ways back: what each level does, and from which numbers on it is meant.
 *
 * Deciding is the monitor's work and acting the database's; here both are written down for code and
 * people at the edge, with the numbers read from the same settings.
 *
 * @module
 */

import type { Level } from "../../_shared/crossfade/contract.ts";
import { isRow, type Row } from "../../_shared/crossfade/flags/snapshot.ts";
import { callForRow, count, type RpcCaller } from "./compat/rpc.ts";

/**
 * What a rollback can do, in this order and all in one transaction of one function, `rollback`. The
 * first two it does at every level, `latch` when nobody decided but a rule. None touches messages.
 */
export const ACTIONS = [
  "take_snapshot",
  "preserve_unmirrored",
  "engage_kill_switch",
  "disable_flag",
  "set_stage",
  "set_percentage",
  "latch",
] as const;
export type Action = (typeof ACTIONS)[number];

export interface Procedure {
  readonly level: Level;
  /** What `scope` names. */
  readonly scope: "flag" | "pair";
  /** What the database may change, in this order, where it is not so already. */
  readonly actions: readonly Action[];
}

const ALWAYS = ["take_snapshot", "preserve_unmirrored"] as const;

export const PROCEDURES: Readonly<Record<Level, Procedure>> = {
  FEATURE: { level: "FEATURE", scope: "flag", actions: [...ALWAYS, "disable_flag", "latch"] },
  // The percentage before; its flags, and from rampdown the stage, go back with it.
  PARTIAL: {
    level: "PARTIAL",
    scope: "pair",
    actions: [...ALWAYS, "disable_flag", "set_stage", "set_percentage", "latch"],
  },
  COMPLETE: {
    level: "COMPLETE",
    scope: "pair",
    actions: [...ALWAYS, "set_stage", "set_percentage", "latch"],
  },
  EMERGENCY: {
    level: "EMERGENCY",
    scope: "pair",
    actions: [...ALWAYS, "engage_kill_switch", "set_stage", "set_percentage", "latch"],
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

/** How a pair fares, for operators. */
export interface HealthReport {
  readonly pair: string;
  readonly stage: string;
  readonly percentage: number;
  readonly latched: boolean;
  readonly seen: Observation;
  /** Level that the numbers speak for; `null` when nothing speaks for going back. */
  readonly suggestion: Level | null;
  readonly thresholds: Thresholds;
  readonly procedures: readonly Procedure[];
  /** All that the database's rules look at. */
  readonly sample: Row;
}

/**
 * Reads how a pair fares; whoever the database does not count as an operator is refused by it.
 *
 * @throws {TypeError} if the database's answer cannot be read
 */
export async function healthReport(
  rpc: RpcCaller,
  { pair, settings }: { readonly pair: string; readonly settings: ReadonlyMap<string, unknown> },
): Promise<HealthReport> {
  const sample = await callForRow(rpc, "health_sample", { pair });
  const backends = isRow(sample.backends) ? sample.backends : {};
  const second = isRow(backends["2"]) ? backends["2"] : {};
  const seen = {
    requests: count(second, "requests"),
    errors: count(second, "errors"),
    streak: count(sample, "streak"),
  };
  const thresholds = readThresholds(settings);
  return {
    pair,
    stage: String(sample.stage),
    percentage: Number(sample.percentage ?? 0),
    latched: sample.latched === true,
    seen,
    suggestion: suggestLevel(seen, thresholds) ?? null,
    thresholds,
    procedures: Object.values(PROCEDURES),
    sample,
  };
}
