/**
 * Answers of flags, in OpenFeature's terms: pure, the same in SQL and Python.
 *
 * @module
 */

import type { EvaluationRule, Reason } from "../contract.ts";
import { type Context, decide, type Figures, figures, readCode } from "./rules.ts";
import type { Plan, Snapshot } from "./snapshot.ts";

export type { Context } from "./rules.ts";

export interface Metadata extends Figures {
  readonly rule: EvaluationRule;
  readonly flags_version: number;
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

/** Is told every answer that somebody acts on; must be quick and must not throw. */
export interface Tally {
  add(plan: Plan, code: number): void;
}

export interface Options {
  /** True when the snapshot is older than its hard age. */
  readonly stale?: boolean;
  /** Age of the snapshot now. @defaultValue without end */
  readonly ageMs?: () => number;
  readonly tally?: Tally | undefined;
}

/** Answers a flag with the rule that decided. Never throws; an unknown flag is off. */
export function evaluate(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): Details {
  const plan = snapshot.plans.get(name);
  if (plan === undefined) {
    const metadata = { rule: "unknown", flags_version: snapshot.version } as const;
    const error_code = "FLAG_NOT_FOUND";
    return { flag: name, value: false, variant: "off", reason: "ERROR", error_code, metadata };
  }
  const code = decide(plan, context, options.stale === true);
  options.tally?.add(plan, code);
  const { value, reason, rule } = readCode(code);
  const metadata = { rule, ...figures(plan, context, rule), flags_version: snapshot.version };
  return { flag: name, value, variant: value ? "on" : "off", reason, metadata };
}

/** Answers a flag with its value only: the hot path, without details. */
export function isEnabled(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): boolean {
  const plan = snapshot.plans.get(name);
  if (plan === undefined) return false;
  const code = decide(plan, context, options.stale === true);
  options.tally?.add(plan, code);
  return (code & 1) === 1;
}
