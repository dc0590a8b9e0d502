/**
 * The state of flags, kill switches and pairs at one version, parsed once and never changed.
 *
 * @module
 */

import { type BucketSeed, bucketSeed } from "./bucket.ts";
import { type Stage, STAGES } from "../contract.ts";

/** A flag as the evaluation wants it: lists are sets and the percentage is a threshold. */
export interface Flag {
  readonly name: string;
  readonly enabled: boolean;
  /** Buckets below it are in; `null` when the flag has no percentage. */
  readonly threshold: number | null;
  readonly defaultValue: boolean;
  readonly cohortKey: string;
  readonly allowUserIds: ReadonlySet<string>;
  readonly allowAgentIds: ReadonlySet<string>;
  readonly denyUserIds: ReadonlySet<string>;
  readonly denyAgentIds: ReadonlySet<string>;
  readonly prerequisites: readonly string[];
  readonly killedBy: readonly string[];
  /** True for a row of a bundled snapshot: what it says may have changed since. */
  readonly stale?: boolean;
}

/** A flag with everything that does not depend on who asks worked out. */
export interface Plan {
  readonly flag: Flag;
  /** The engaged switch that stops it, if one does. */
  readonly killSwitch: string | undefined;
  readonly stopped: boolean;
  readonly killable: boolean;
  /** Its prerequisites by name; `undefined` for one that does not exist. */
  readonly requires: readonly (Plan | undefined)[];
  readonly denies: boolean;
  readonly allows: boolean;
  readonly seed: BucketSeed;
  /** Answers given and not reported yet, by code: counted here because a map would cost more. */
  readonly counts: Uint32Array;
}

/** Answers have codes below it; see evaluate.ts. */
export const ANSWER_CODES = 64;

export interface KillSwitchState {
  readonly name: string;
  readonly engaged: boolean;
  readonly fences: boolean;
  readonly overridesAll: boolean;
  /** The only pair it stops, or `null` for every pair. */
  readonly pair: string | null;
}

export interface Cohort {
  readonly threshold: number;
  readonly seed: BucketSeed;
  readonly enabledUserIds: ReadonlySet<string>;
  readonly enabledAgentIds: ReadonlySet<string>;
  readonly deniedUserIds: ReadonlySet<string>;
  readonly deniedAgentIds: ReadonlySet<string>;
}

export interface Pair {
  readonly name: string;
  readonly stage: Stage;
  readonly gateFlag: string | null;
  readonly step: number;
  readonly cohort: Cohort;
  /** True for a row of a bundled snapshot. */
  readonly stale?: boolean;
}

/** What a reader of flags sees; a change makes a new snapshot. */
export interface Snapshot {
  readonly version: number;
  readonly origin: "database" | "environment";
  readonly flags: ReadonlyMap<string, Flag>;
  /** What evaluation reads, by flag. */
  readonly plans: ReadonlyMap<string, Plan>;
  readonly killSwitches: ReadonlyMap<string, KillSwitchState>;
  readonly pairs: ReadonlyMap<string, Pair>;
  readonly settings: ReadonlyMap<string, unknown>;
  /** Engaged switches that override every flag, sorted by code point. */
  readonly overriding: readonly string[];
}

export type Row = Readonly<Record<string, unknown>>;

/** Parts of a snapshot before derived values are computed. */
export interface SnapshotParts {
  readonly version: number;
  readonly origin: "database" | "environment";
  readonly flags: Iterable<Flag>;
  readonly killSwitches: Iterable<KillSwitchState>;
  readonly pairs: Iterable<Pair>;
  readonly settings?: ReadonlyMap<string, unknown>;
}

/** Builds a snapshot; of two rows of one name the later wins. */
export function buildSnapshot(parts: SnapshotParts): Snapshot {
  const killSwitches = new Map<string, KillSwitchState>();
  for (const row of parts.killSwitches) killSwitches.set(row.name, row);
  const overriding = [...killSwitches.values()]
    .filter((row) => row.engaged && row.overridesAll)
    .map((row) => row.name)
    .sort(byCodePoint);
  const flags = new Map([...parts.flags].map((row) => [row.name, row]));
  return {
    version: parts.version,
    origin: parts.origin,
    flags,
    plans: planFlags(flags, killSwitches, overriding[0]),
    killSwitches,
    pairs: new Map([...parts.pairs].map((row) => [row.name, row])),
    settings: parts.settings ?? new Map(),
    overriding,
  };
}

function planFlags(
  flags: ReadonlyMap<string, Flag>,
  killSwitches: ReadonlyMap<string, KillSwitchState>,
  overriding: string | undefined,
): ReadonlyMap<string, Plan> {
  const plans = new Map<string, Plan & { requires: (Plan | undefined)[] }>();
  for (const flag of flags.values()) {
    // Both lists are sorted, so the earlier of the two first ones is the first of all.
    const own = flag.killedBy.find((name) => killSwitches.get(name)?.engaged === true);
    const killSwitch = own === undefined || overriding === undefined
      ? own ?? overriding
      : byCodePoint(own, overriding) < 0
      ? own
      : overriding;
    plans.set(flag.name, {
      flag,
      killSwitch,
      stopped: killSwitch !== undefined || !flag.enabled,
      killable: flag.killedBy.length > 0,
      requires: [],
      denies: flag.denyUserIds.size + flag.denyAgentIds.size > 0,
      allows: flag.allowUserIds.size + flag.allowAgentIds.size > 0,
      seed: bucketSeed(flag.cohortKey),
      counts: new Uint32Array(ANSWER_CODES),
    });
  }
  for (const plan of plans.values()) {
    plan.requires = plan.flag.prerequisites.map((name) => plans.get(name));
  }
  return plans;
}

/** Orders text as PostgreSQL's collation "C" does. */
export function byCodePoint(a: string, b: string): number {
  if (a === b) return 0;
  const left = [...a];
  const right = [...b];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = (left[i]?.codePointAt(0) ?? 0) - (right[i]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

export function isRow(value: unknown): value is Row {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Parses a whole answer of `crossfade.read_flags`.
 *
 * @throws {TypeError} if a row lacks its name or has a value of the wrong type: a snapshot that is
 * half understood must not replace a good one.
 */
export function parseSnapshot(answer: Row): Snapshot {
  return buildSnapshot({
    version: integer(answer, "flags_version"),
    origin: "database",
    flags: rows(answer, "flags").map(parseFlag),
    killSwitches: rows(answer, "kill_switches").map(parseKillSwitch),
    pairs: rows(answer, "pairs").map(parsePair),
    settings: new Map(Object.entries(isRow(answer.settings) ? answer.settings : {})),
  });
}

export function parseFlag(row: Row): Flag {
  const name = text(row, "name");
  return {
    name,
    enabled: row.enabled === true,
    threshold: row.percentage == null ? null : threshold(row.percentage),
    defaultValue: row.default_value === true,
    cohortKey: typeof row.cohort_key === "string" ? row.cohort_key : name,
    allowUserIds: new Set(texts(row, "allow_user_ids")),
    allowAgentIds: new Set(texts(row, "allow_agent_ids")),
    denyUserIds: new Set(texts(row, "deny_user_ids")),
    denyAgentIds: new Set(texts(row, "deny_agent_ids")),
    prerequisites: texts(row, "prerequisites"),
    killedBy: texts(row, "killed_by").toSorted(byCodePoint),
  };
}

export function parseKillSwitch(row: Row): KillSwitchState {
  return {
    name: text(row, "name"),
    engaged: row.engaged === true,
    fences: row.fences === true,
    overridesAll: row.overrides_all === true,
    pair: typeof row.pair === "string" ? row.pair : null,
  };
}

export function parsePair(row: Row): Pair {
  const name = text(row, "name");
  const stage = STAGES.find((known) => known === row.stage);
  if (stage === undefined) {
    throw new TypeError(`Cannot read pair "${name}": stage "${row.stage}" is unknown`);
  }
  const cohort = isRow(row.cohort) ? row.cohort : {};
  return {
    name,
    stage,
    gateFlag: typeof row.gate_flag === "string" ? row.gate_flag : null,
    step: typeof row.step === "number" ? row.step : 0,
    cohort: {
      threshold: cohort.percentage == null ? 0 : threshold(cohort.percentage),
      seed: bucketSeed(typeof cohort.cohort_key === "string" ? cohort.cohort_key : name),
      enabledUserIds: new Set(texts(cohort, "enabled_user_ids")),
      enabledAgentIds: new Set(texts(cohort, "enabled_agent_ids")),
      deniedUserIds: new Set(texts(cohort, "denied_user_ids")),
      deniedAgentIds: new Set(texts(cohort, "denied_agent_ids")),
    },
  };
}

/**
 * Returns the number of buckets inside a percentage.
 *
 * Rounded, because 17.856 * 1000 is a little less than 17856 in binary.
 */
export function threshold(percentage: unknown): number {
  const number = typeof percentage === "string" ? Number(percentage) : percentage;
  if (typeof number !== "number" || !(number >= 0 && number <= 100)) {
    throw new TypeError(`Cannot read percentage "${percentage}": it is not between 0 and 100`);
  }
  return Math.round(number * 1000);
}

function rows(row: Row, key: string): Row[] {
  const value = row[key];
  if (!Array.isArray(value) || !value.every(isRow)) {
    throw new TypeError(`Cannot read flags: "${key}" is not a list of rows`);
  }
  return value;
}

function text(row: Row, key: string): string {
  const value = row[key];
  if (typeof value !== "string") {
    throw new TypeError(`Cannot read flags: "${key}" is not text`);
  }
  return value;
}

function integer(row: Row, key: string): number {
  const value = row[key];
  if (typeof value !== "number" || !Number.isSafeInteger(value)) {
    throw new TypeError(`Cannot read flags: "${key}" is not a whole number`);
  }
  return value;
}

function texts(row: Row, key: string): string[] {
  const value = row[key];
  if (value == null) return [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw new TypeError(`Cannot read flags: "${key}" is not a list of texts`);
  }
  return value;
}
