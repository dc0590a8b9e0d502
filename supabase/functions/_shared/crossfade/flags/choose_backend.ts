/**
 * Which backend serves a request: pure, the same rules as in SQL and Python.
 *
 * @module
 */

import type { BackendRule, Reason, Version } from "../contract.ts";
import { evaluate, type Options } from "./evaluate.ts";
import { type Context, drawnFigures, listed, share } from "./rules.ts";
import type { Pair, Snapshot } from "./snapshot.ts";

export interface BackendChoice {
  readonly backend: Version;
  readonly reason: Reason;
  readonly rule: BackendRule;
  readonly bucket?: number;
  readonly threshold?: number;
  readonly flags_version: number;
  /**
   * Set when backend 1 is chosen without knowing that it is no archive by now: new rows may be
   * offered to it, because an archive refuses them, and everything else must not be answered.
   */
  readonly unsure?: true;
}

/**
 * Chooses the backend that serves a request.
 *
 * A pair that the database does not know is served from backend 1, as before crossfade came.
 */
export function chooseBackend(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options = {},
): BackendChoice {
  const choice = choose(snapshot, name, context, options);
  if (choice.backend === 2 || !mayBeArchive(snapshot, name, options)) return choice;
  return { ...choice, unsure: true };
}

/**
 * Whether V1 may be an archive by now.
 *
 * Before it becomes one backend 2 has served everybody for `stage_bake_s`: a copy that is younger than
 * that and says otherwise is enough to know.
 */
function mayBeArchive(snapshot: Snapshot, name: string, options: Options): boolean {
  if (snapshot.origin !== "database") return true;
  if (options.stale !== true) return false;
  const pair = snapshot.pairs.get(name);
  if (pair === undefined) return false;
  if (pair.stage === "rampdown" || pair.cohort.threshold >= 100_000) return true;
  const bakeMs = Number(snapshot.settings.get("stage_bake_s") ?? 0) * 1_000;
  return !((options.ageMs?.() ?? Infinity) < bakeMs);
}

function choose(
  snapshot: Snapshot,
  name: string,
  context: Context,
  options: Options,
): BackendChoice {
  const flags_version = snapshot.version;
  const pair = snapshot.pairs.get(name);
  const answer = (
    backend: Version,
    reason: Reason,
    rule: BackendRule,
  ): BackendChoice => ({ backend, reason, rule, flags_version });

  if (isOver(pair?.stage)) return answer(2, "STATIC", "stage");
  if (fenced(snapshot, name)) return answer(1, "DISABLED", "kill_switch");
  if (options.stale === true || pair?.stale === true) return answer(1, "STALE", "stale");
  if (pair === undefined || !servesV2(pair)) return answer(1, "STATIC", "stage");
  if (pair.gateFlag !== null) {
    const gate = evaluate(snapshot, pair.gateFlag, context, options);
    if (!gate.value) return answer(1, gate.reason, "gate_flag");
  }
  if (pair.stage === "rampdown") return answer(2, "STATIC", "stage");
  return inCohort(pair, context, answer);
}

/** Whether backend 1 can serve nobody any more: from stage `complete` on. */
export function isOver(stage: string | undefined): boolean {
  return stage === "complete" || stage === "retired";
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
  const inside = share(cohort.threshold, cohort.seed, context);
  if (inside === undefined) return answer(1, "DEFAULT", "default");
  return { ...answer(inside ? 2 : 1, "SPLIT", "percentage"), ...drawnFigures(cohort.threshold) };
}

/** Returns whether an engaged kill switch keeps a pair away from backend 2. */
export function fenced(snapshot: Snapshot, pair: string): boolean {
  if (snapshot.overriding.length > 0) return true;
  for (const row of snapshot.killSwitches.values()) {
    if (row.engaged && row.fences && (row.pair === null || row.pair === pair)) return true;
  }
  return false;
}
