/**
 * Why a flag answers what it does: every rule, as explain_flag shows it in the database.
 *
 * @module
 */

import type { EvaluationRule } from "../contract.ts";
import { type Details, evaluate, type Options } from "./evaluate.ts";
import { type Context, drawnFigures, type Figures, listed, share, unmet } from "./rules.ts";
import type { Plan, Snapshot } from "./snapshot.ts";

/** One rule of an explanation: whether it applies, and what it would answer. */
export interface Step extends Figures {
  readonly rule: EvaluationRule;
  readonly matched: boolean;
  readonly value: boolean;
  readonly decides: boolean;
}

export interface Explanation extends Details {
  /** Every rule in order; none for an unknown flag. */
  readonly steps: readonly Step[];
}

/** Answers a flag together with every rule, as explain_flag does in the database. Counts nothing. */
export function explain(
  snapshot: Snapshot,
  name: string,
  context: Context,
  { stale = false }: Options = {},
): Explanation {
  const details = evaluate(snapshot, name, context, { stale });
  const plan = snapshot.plans.get(name);
  if (plan === undefined) return { ...details, steps: [] };
  const steps = stepsOf(plan, context);
  const decisive = steps.findIndex((step) => step.matched);
  return { ...details, steps: steps.map((step, i) => ({ ...step, decides: i === decisive })) };
}

function stepsOf(plan: Plan, context: Context): Omit<Step, "decides">[] {
  const { flag, killSwitch } = plan;
  const prerequisite = unmet(plan, context);
  const denied = listed(flag.denyUserIds, context.user_id) ||
    listed(flag.denyAgentIds, context.agent_id);
  const allowed = listed(flag.allowUserIds, context.user_id) ||
    listed(flag.allowAgentIds, context.agent_id);
  const inside = flag.threshold === null ? undefined : share(flag.threshold, plan.seed, context);
  const step = (rule: EvaluationRule, matched: boolean, value = false, more: Figures = {}) => ({
    rule,
    matched,
    value,
    ...more,
  });
  return [
    step(
      "kill_switch",
      killSwitch !== undefined,
      false,
      killSwitch ? { kill_switch: killSwitch } : {},
    ),
    step("disabled", !flag.enabled),
    step("prerequisite", prerequisite !== undefined, false, prerequisite ? { prerequisite } : {}),
    step("deny", denied),
    step("allow", allowed, true),
    step(
      "percentage",
      inside !== undefined,
      inside ?? false,
      flag.threshold === null ? {} : drawnFigures(flag.threshold),
    ),
    step("default", true, flag.defaultValue),
  ];
}
