/**
 * The rules of a flag in their order: pure, the same as in SQL and Python.
 *
 * @module
 */

import { bucketOf, type BucketSeed } from "./bucket.ts";
import { EVALUATION_RULES, type EvaluationRule, type Reason } from "../contract.ts";
import type { Plan } from "./snapshot.ts";

/** Who a request is for; an empty or missing id counts as not known. */
export interface Context {
  readonly user_id?: string | null | undefined;
  readonly agent_id?: string | null | undefined;
  readonly conversation_id?: string | null | undefined;
}

/**
 * Returns an id: text that is not empty, or the decimal text of an integer that every language reads
 * alike. Contexts come out of JSON, so other values are met, and are no id anywhere.
 */
export function idOf(value: unknown): string | undefined {
  if (typeof value === "string") return value === "" ? undefined : value;
  return Number.isSafeInteger(value) ? String(value) : undefined;
}

/** Returns the id a percentage is taken over, or `undefined` when none is known. */
export function unitOf(context: Context): string | undefined {
  return idOf(context.user_id) ?? idOf(context.agent_id) ?? idOf(context.conversation_id);
}

// An answer is one small number on the way, so that the hot path allocates nothing: the rule's place
// in EVALUATION_RULES, times two, plus the value; and 32 when the answer is of a stale copy.
const KILL_SWITCH = 0;
const DISABLED = 2;
const PREREQUISITE = 4;
const DENY = 6;
const ALLOW = 9;
const PERCENTAGE = 10;
const DEFAULT = 12;
const STALE_RULE = 16;
const STALE = 32;

const REASON_OF_RULE: readonly Reason[] = [
  "DISABLED",
  "DISABLED",
  "DISABLED",
  "TARGETING_MATCH",
  "TARGETING_MATCH",
  "SPLIT",
  "DEFAULT",
  "ERROR",
  "STALE",
];

/** Bucket of the last percentage that was taken; -1 when there was no unit. */
let drawn = -1;

/** Returns value and reason of an answer's code. */
export function readCode(
  code: number,
): { readonly value: boolean; readonly reason: Reason; readonly rule: EvaluationRule } {
  const place = (code & 31) >> 1;
  const reason = (code & STALE) !== 0 ? "STALE" : REASON_OF_RULE[place] ?? "ERROR";
  return { value: (code & 1) === 1, reason, rule: EVALUATION_RULES[place] ?? "unknown" };
}

/** Decides a flag; returns the answer's code. */
export function decide(plan: Plan, context: Context, stale: boolean): number {
  const code = plan.stopped
    ? (plan.killSwitch === undefined ? DISABLED : KILL_SWITCH)
    : unmet(plan, context) !== undefined
    ? PREREQUISITE
    : targeted(plan, context);
  if (!stale && plan.flag.stale !== true) return code;
  if (code === KILL_SWITCH) return code;
  // A flag that can be killed may have been killed since the last read, so it is off.
  return plan.killable ? STALE_RULE : code | STALE;
}

/** Rule 3. One level only: the prerequisite's own prerequisites are not looked at. */
export function unmet(plan: Plan, context: Context): string | undefined {
  const { requires } = plan;
  for (let i = 0; i < requires.length; i++) {
    const other = requires[i];
    if (other === undefined || other.stopped || (targeted(other, context) & 1) === 0) {
      return plan.flag.prerequisites[i];
    }
  }
  return undefined;
}

/** Rules 4 to 7: deny before allow, then the percentage, then the default. */
function targeted(plan: Plan, context: Context): number {
  const { flag } = plan;
  if (
    plan.denies &&
    (listed(flag.denyUserIds, context.user_id) || listed(flag.denyAgentIds, context.agent_id))
  ) return DENY;
  if (
    plan.allows &&
    (listed(flag.allowUserIds, context.user_id) || listed(flag.allowAgentIds, context.agent_id))
  ) return ALLOW;
  if (flag.threshold !== null) {
    const inside = share(flag.threshold, plan.seed, context);
    if (inside !== undefined) return inside ? PERCENTAGE + 1 : PERCENTAGE;
  }
  return flag.defaultValue ? DEFAULT + 1 : DEFAULT;
}

/** Returns whether a list holds an id that is known. */
export function listed(ids: ReadonlySet<string>, id: string | null | undefined): boolean {
  if (ids.size === 0) return false;
  const known = idOf(id);
  return known !== undefined && ids.has(known);
}

/** Rule 6: decides by bucket; `undefined` without a unit, unless everybody is in. */
export function share(threshold: number, seed: BucketSeed, context: Context): boolean | undefined {
  const unit = unitOf(context);
  if (unit === undefined) {
    drawn = -1;
    return threshold < 100_000 ? undefined : true;
  }
  drawn = bucketOf(seed, unit);
  return drawn < threshold;
}

/** What a rule looked at. */
export interface Figures {
  readonly bucket?: number;
  readonly threshold?: number;
  readonly kill_switch?: string;
  readonly prerequisite?: string;
}

/** Returns what the rule that decided looked at. */
export function figures(plan: Plan, context: Context, rule: EvaluationRule): Figures {
  if (rule === "percentage") return drawnFigures(plan.flag.threshold ?? 0);
  if (rule === "kill_switch" && plan.killSwitch !== undefined) {
    return { kill_switch: plan.killSwitch };
  }
  const prerequisite = rule === "prerequisite" ? unmet(plan, context) : undefined;
  return prerequisite === undefined ? {} : { prerequisite };
}

/** Returns the figures of the percentage taken last. */
export function drawnFigures(threshold: number): Figures {
  return drawn < 0 ? { threshold } : { bucket: drawn, threshold };
}
