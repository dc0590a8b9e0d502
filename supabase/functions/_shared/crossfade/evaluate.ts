/**
 * Evaluation of flags and the choice of a backend: pure, the same rules as in SQL and Python.
 *
 * @module
 */

import { bucket } from "./bucket.ts";
import type { BackendRule, EvaluationRule, Reason, Version } from "./contract.ts";
import { byCodePoint, type Flag, type Pair, type Snapshot } from "./snapshot.ts";

/** Who a request is for; an empty or missing id counts as not known. */
export interface Context {
  readonly user_id?: string | null | undefined;
  readonly agent_id?: string | null | undefined;
  readonly conversation_id?: string | null | undefined;
}

export interface Metadata {
  readonly rule: EvaluationRule;
  readonly flags_version: number;
  readonly bucket?: number;
  readonly threshold?: number;
  readonly kill_switch?: string;
  readonly prerequisite?: string;
}

/** The answer for one flag, in OpenFeature's terms. */
export interface Details {
  readonly flag: string;
  readonly value: boolean;
  readonly variant: "on" | "off";
  readonly reason: Reason;
  readonly error_code?: "FLAG_NOT_FOUND";
  readonly metadata: Metadata;
}

export interface BackendChoice {
  readonly backend: Version;
  readonly reason: Reason;
  readonly rule: BackendRule;
  readonly bucket?: number;
  readonly threshold?: number;
  readonly flags_version: number;
}

export interface Options {
  /** True when the snapshot is older than its hard age. */
  readonly stale?: boolean;
}

interface Verdict {
  readonly value: boolean;
  readonly reason: Reason;
  readonly rule: EvaluationRule;
  readonly bucket?: number;
  readonly threshold?: number;
  readonly kill_switch?: string;
  readonly prerequisite?: string;
}

/** Returns the id a percentage is taken over, or `undefined` when none is known. */
export function unitOf(context: Context): string | undefined {
  return context.user_id || context.agent_id || context.conversation_id || undefined;
}

/** Answers a flag with the rule that decided. Never throws; an unknown flag is off. */
export function evaluate(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): Details {
  const flag = snapshot.flags.get(name);
  if (flag === undefined) {
    const metadata = { rule: "unknown", flags_version: snapshot.version } as const;
    const error_code = "FLAG_NOT_FOUND";
    return { flag: name, value: false, variant: "off", reason: "ERROR", error_code, metadata };
  }
  const fresh = decide(snapshot, flag, context);
  const { value, reason, ...metadata } = options.stale === true ? whenStale(flag, fresh) : fresh;
  return {
    flag: name,
    value,
    variant: value ? "on" : "off",
    reason,
    metadata: { ...metadata, flags_version: snapshot.version },
  };
}

/** Answers a flag with its value only: the hot path, without details. */
export function isEnabled(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): boolean {
  const flag = snapshot.flags.get(name);
  if (flag === undefined) return false;
  if (options.stale === true && flag.killedBy.length > 0) return false;
  return decide(snapshot, flag, context).value;
}

/** A flag that can be killed may have been killed since the last read, so it is off. */
function whenStale(flag: Flag, fresh: Verdict): Verdict {
  if (fresh.rule === "kill_switch") return fresh;
  if (flag.killedBy.length > 0) return { value: false, reason: "STALE", rule: "stale" };
  return { ...fresh, reason: "STALE" };
}

function decide(snapshot: Snapshot, flag: Flag, context: Context): Verdict {
  return stopped(snapshot, flag) ?? unmet(snapshot, flag, context) ?? targeted(flag, context) ??
    split(flag, context) ??
    { value: flag.defaultValue, reason: "DEFAULT", rule: "default" };
}

/** Rules 1 and 2: kill switches, then the flag's own switch. */
function stopped(snapshot: Snapshot, flag: Flag): Verdict | undefined {
  const killSwitch = engagedSwitch(snapshot, flag);
  if (killSwitch !== undefined) {
    return { value: false, reason: "DISABLED", rule: "kill_switch", kill_switch: killSwitch };
  }
  return flag.enabled ? undefined : { value: false, reason: "DISABLED", rule: "disabled" };
}

/** The first by code point of the engaged switches that stop the flag. Both lists are sorted. */
function engagedSwitch(snapshot: Snapshot, flag: Flag): string | undefined {
  const overriding = snapshot.overriding[0];
  const own = flag.killedBy.find((name) => snapshot.killSwitches.get(name)?.engaged === true);
  if (overriding === undefined) return own;
  if (own === undefined) return overriding;
  return byCodePoint(own, overriding) < 0 ? own : overriding;
}

/** Rule 3. One level only: the prerequisite's own prerequisites are not looked at. */
function unmet(snapshot: Snapshot, flag: Flag, context: Context): Verdict | undefined {
  for (const name of flag.prerequisites) {
    const other = snapshot.flags.get(name);
    const met = other !== undefined && (
      stopped(snapshot, other) ?? targeted(other, context) ?? split(other, context) ??
        { value: other.defaultValue }
    ).value;
    if (!met) {
      return { value: false, reason: "DISABLED", rule: "prerequisite", prerequisite: name };
    }
  }
  return undefined;
}

/** Rules 4 and 5: deny before allow. */
function targeted(flag: Flag, context: Context): Verdict | undefined {
  if (listed(flag.denyUserIds, context.user_id) || listed(flag.denyAgentIds, context.agent_id)) {
    return { value: false, reason: "TARGETING_MATCH", rule: "deny" };
  }
  if (listed(flag.allowUserIds, context.user_id) || listed(flag.allowAgentIds, context.agent_id)) {
    return { value: true, reason: "TARGETING_MATCH", rule: "allow" };
  }
  return undefined;
}

function listed(ids: ReadonlySet<string>, id: string | null | undefined): boolean {
  return ids.size > 0 && !!id && ids.has(id);
}

/** Rule 6. */
function split(flag: Flag, context: Context): Verdict | undefined {
  if (flag.threshold === null) return undefined;
  return share(flag.threshold, flag.cohortKey, context);
}

interface Share {
  readonly value: boolean;
  readonly reason: "SPLIT";
  readonly rule: "percentage";
  readonly bucket?: number;
  readonly threshold: number;
}

/** Decides by bucket; `undefined` without a unit, unless everybody is in. */
function share(threshold: number, cohortKey: string, context: Context): Share | undefined {
  const unit = unitOf(context);
  if (unit === undefined) {
    if (threshold < 100_000) return undefined;
    return { value: true, reason: "SPLIT", rule: "percentage", threshold };
  }
  const number = bucket(cohortKey, unit);
  const value = number < threshold;
  return { value, reason: "SPLIT", rule: "percentage", bucket: number, threshold };
}

/**
 * Chooses the backend that serves a request.
 *
 * A pair that the snapshot does not know is served from backend 1, as before crossfade came.
 */
export function chooseBackend(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): BackendChoice {
  const flags_version = snapshot.version;
  const pair = snapshot.pairs.get(name);
  const answer = (
    backend: Version,
    reason: Reason,
    rule: BackendRule,
  ): BackendChoice => ({ backend, reason, rule, flags_version });

  if (pair?.stage === "complete") return answer(2, "STATIC", "stage");
  if (fenced(snapshot, name)) return answer(1, "DISABLED", "kill_switch");
  if (options.stale === true) return answer(1, "STALE", "stale");
  if (pair === undefined || !servesV2(pair)) return answer(1, "STATIC", "stage");
  if (pair.gateFlag !== null) {
    const gate = evaluate(snapshot, pair.gateFlag, context);
    if (!gate.value) return answer(1, gate.reason, "gate_flag");
  }
  if (pair.stage === "rampdown") return answer(2, "STATIC", "stage");
  return inCohort(pair, context, answer);
}

function servesV2(pair: Pair): boolean {
  return pair.stage === "live" || pair.stage === "rampdown";
}

function inCohort(
  { cohort }: Pair,
  context: Context,
  answer: (backend: Version, reason: Reason, rule: BackendRule) => BackendChoice,
): BackendChoice {
  const { user_id: user, agent_id: agent } = context;
  if (listed(cohort.deniedUserIds, user) || listed(cohort.deniedAgentIds, agent)) {
    return answer(1, "TARGETING_MATCH", "deny");
  }
  if (listed(cohort.enabledUserIds, user) || listed(cohort.enabledAgentIds, agent)) {
    return answer(2, "TARGETING_MATCH", "allow");
  }
  const part = share(cohort.threshold, cohort.cohortKey, context);
  if (part === undefined) return answer(1, "DEFAULT", "default");
  const { value, reason, rule, ...numbers } = part;
  return { ...answer(value ? 2 : 1, reason, rule), ...numbers };
}

/** Returns whether an engaged kill switch keeps a pair away from backend 2. */
export function fenced(snapshot: Snapshot, pair: string): boolean {
  if (snapshot.overriding.length > 0) return true;
  for (const row of snapshot.killSwitches.values()) {
    if (row.engaged && row.fences && (row.pair === null || row.pair === pair)) return true;
  }
  return false;
}

/** One rule looked at while explaining an answer. */
export interface Step {
  readonly rule: EvaluationRule;
  readonly matched: boolean;
}

/** Answers a flag together with every rule looked at, the deciding one last. */
export function explain(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): Details & { readonly steps: readonly Step[] } {
  const details = evaluate(snapshot, name, context, options);
  const order: EvaluationRule[] = [
    "kill_switch",
    "disabled",
    "prerequisite",
    "deny",
    "allow",
    "percentage",
    "default",
  ];
  const decided = order.indexOf(details.metadata.rule);
  const looked = decided < 0 ? [] : order.slice(0, decided);
  const steps = looked.map((rule) => ({ rule, matched: false }));
  return { ...details, steps: [...steps, { rule: details.metadata.rule, matched: true }] };
}
