/**
 * Flags before the database has been read: from environment variables and from a snapshot that was
 * deployed with the function.
 *
 * What wins, highest first:
 *
 * 1. `KILL_SWITCH_<NAME>=true`, always.
 * 2. The copy of the database, while it is younger than its hard age.
 * 3. Past the hard age: the variables of flags; then the old copy with reason STALE, in which what
 *    can be killed is off.
 * 4. Never read: the variables; then the bundled snapshot with reason STALE, in which what can be
 *    killed is off; then everything off. V2 serves whom the variables let in, or a pair that was
 *    complete. Anybody else's backend is not known, and what only a known one may answer is refused.
 *
 * @module
 */

import { isOver } from "./choose_backend.ts";
import {
  buildSnapshot,
  type Flag,
  isRow,
  type KillSwitchState,
  type Pair,
  parseFlag,
  parsePair,
  parseSnapshot,
  type Snapshot,
} from "./snapshot.ts";

/** Reads one variable; the only way this module sees the environment. */
export type ReadVariable = (name: string) => string | undefined;

/** What the environment says about flags. */
export interface Bootstrap {
  /** Used until the database has been read once. */
  readonly snapshot: Snapshot;
  /** Flags that a variable sets; they replace the last copy when that is too old. */
  readonly flags: readonly Flag[];
  /** Names of kill switches that a variable engages. */
  readonly engaged: readonly string[];
  /** flags_version of what was deployed with the function; 0 when nothing was. */
  readonly bundleVersion: number;
  /** What could not be read, for the log. */
  readonly warnings: readonly string[];
}

/** The flags of one pair that variables may set. Without them only switches and the bundle count. */
export interface OwnFlags {
  readonly pair: string;
  /** Flag that lets backend 2 serve, and the variable that sets it. */
  readonly gate: { readonly flag: string; readonly variable: string };
  /** Flags and the kill switches that stop them. */
  readonly flags: Readonly<Record<string, readonly string[]>>;
  /** Variables: the flag each one sets, and whether `true` switches it on or off. */
  readonly variables: Readonly<Record<string, readonly [string, "on" | "off"]>>;
}

const NOTHING_SET: Readonly<Record<string, string>> = {};

/** Returns whether a variable's text means true. */
export function isTrue(value: string | undefined): boolean {
  return /^\s*(true|1|on|yes)\s*$/i.test(value ?? "");
}

/**
 * Reads the bootstrap values.
 *
 * Without a variable and a bundled snapshot every flag is off and nobody knows where a pair stands.
 * With the variable of the gate true, the cohort of ROLLOUT_PERCENTAGE, ENABLED_USER_IDS and
 * ENABLED_AGENT_IDS is served from V2 until the database says otherwise. What cannot be read counts
 * as not set and is told: a typing mistake in a secret must not keep the function from starting.
 *
 * @param environment all variables: KILL_SWITCH_* names are not known beforehand
 * @param own flags that variables may set
 * @param bundled what `crossfade flags bundle` wrote; an empty object means none
 */
export function readBootstrap(
  environment: Readonly<Record<string, string>> = NOTHING_SET,
  own?: OwnFlags,
  bundled: unknown = {},
): Bootstrap {
  const read: ReadVariable = (name) => environment[name];
  const flags = Object.entries(own?.variables ?? {}).flatMap(([variable, [name, sense]]) => {
    const value = read(variable);
    if (value === undefined || value.trim() === "") return [];
    return [bootstrapFlag(own, name, isTrue(value) === (sense === "on"))];
  });
  const engaged = Object.keys(environment)
    .filter((name) => name.startsWith("KILL_SWITCH_") && isTrue(environment[name]))
    .map((name) => name.slice("KILL_SWITCH_".length).toLowerCase());
  const percentage = readPercentage(read("ROLLOUT_PERCENTAGE"));
  const warnings = percentage === undefined ? ["ROLLOUT_PERCENTAGE is not a percentage"] : [];
  const old = readBundled(bundled, warnings);
  const off = Object.keys(own?.flags ?? {}).map((name) => bootstrapFlag(own, name, false));
  const snapshot = buildSnapshot({
    version: 0,
    origin: "environment",
    // Of two rows of one name the later wins.
    flags: [...off, ...staleRows(old?.flags), ...flags],
    killSwitches: engageSwitches(old?.killSwitches.values() ?? [], engaged),
    pairs: [
      ...own === undefined ? [] : [bootstrapPair(read, own, percentage ?? 0)],
      ...staleRows(old?.pairs).filter((row) => isOver(row.stage) || !sets(read, row, own)),
    ],
    settings: old?.settings ?? new Map(),
  });
  return { snapshot, flags, engaged, bundleVersion: old?.version ?? 0, warnings };
}

function readBundled(bundled: unknown, warnings: string[]): Snapshot | undefined {
  if (isRow(bundled) && Object.keys(bundled).length === 0) return undefined;
  try {
    if (!isRow(bundled)) throw new TypeError("it is not an object");
    return parseSnapshot(bundled);
  } catch (error) {
    warnings.push(
      `The bundled flags cannot be read: ${error instanceof Error ? error.message : error}`,
    );
    return undefined;
  }
}

/** Rows that were true when the function was deployed: nobody knows what has been killed since. */
function staleRows<T extends object>(rows: ReadonlyMap<string, T> | undefined): T[] {
  return [...rows?.values() ?? []].map((row) => ({ ...row, stale: true }));
}

/** Returns whether variables say where a pair stands. */
function sets(read: ReadVariable, row: Pair, own: OwnFlags | undefined): boolean {
  return own !== undefined && row.name === own.pair &&
    (read(own.gate.variable) ?? "").trim() !== "";
}

/** Returns the rows with the named switches engaged; a switch that no row knows is added. */
export function engageSwitches(
  rows: Iterable<KillSwitchState>,
  engaged: readonly string[],
): KillSwitchState[] {
  const byName = new Map([...rows].map((row) => [row.name, row]));
  for (const name of engaged) {
    const isEmergency = name === "emergency_rollback";
    const row = byName.get(name) ?? {
      name,
      // The two kinds that the engine makes; the others are the owner's and stop flags only.
      fences: isEmergency || name.startsWith("disable_v2_"),
      overridesAll: isEmergency,
      pair: null,
    };
    // An environment variable stops every pair, also where the row names one.
    byName.set(name, { ...row, engaged: true, pair: null });
  }
  return [...byName.values()];
}

/** The copies to decide with, from what was read: while it is young, and past its hard age. */
export function combine(read: Snapshot, { flags, engaged }: Bootstrap) {
  const killSwitches = engageSwitches(read.killSwitches.values(), engaged);
  const rows = { ...read, pairs: [...read.pairs.values()], killSwitches };
  return {
    snapshot: buildSnapshot({ ...rows, flags: read.flags.values() }),
    old: buildSnapshot({ ...rows, flags: [...read.flags.values(), ...flags] }),
  };
}

function bootstrapFlag(own: OwnFlags | undefined, name: string, enabled: boolean): Flag {
  const killed_by = [...own?.flags[name] ?? []];
  return parseFlag({ name, enabled, default_value: enabled, killed_by });
}

/** Returns the percentage, or `undefined` if it is not one with at most three decimals. */
function readPercentage(value: string | undefined): number | undefined {
  const text = (value ?? "").trim();
  if (text === "") return 0;
  const number = /^[0-9]{1,3}(\.[0-9]{1,3})?$/.test(text) ? Number(text) : NaN;
  return number <= 100 ? number : undefined;
}

function bootstrapPair(
  read: ReadVariable,
  { pair, gate }: OwnFlags,
  percentage: number,
): Pair {
  return parsePair({
    name: pair,
    stage: isTrue(read(gate.variable)) ? "live" : "off",
    gate_flag: gate.flag,
    cohort: {
      percentage,
      enabled_user_ids: list(read("ENABLED_USER_IDS")),
      enabled_agent_ids: list(read("ENABLED_AGENT_IDS")),
    },
  });
}

function list(value: string | undefined): string[] {
  return (value ?? "").split(",").map((item) => item.trim()).filter((item) => item !== "");
}
