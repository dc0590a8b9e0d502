/**
 * Builds snapshots from rows that say only what matters to a test.
 *
 * @module
 */

import {
  buildSnapshot,
  isRow,
  parseFlag,
  parseKillSwitch,
  parsePair,
  type Row,
  type Snapshot,
} from "../../supabase/functions/_shared/crossfade/flags/snapshot.ts";
import { readVectors } from "./vectors.ts";

const { defaults } = readVectors("backend_choice");

export interface Rows {
  readonly flags?: readonly Row[];
  readonly kill_switches?: readonly Row[];
  readonly pairs?: readonly Row[];
  readonly settings?: Row;
}

/** Returns an answer of read_flags. */
export function flagsAnswer(version: number, rows: Rows = {}): Row {
  return {
    flags_version: version,
    flags: (rows.flags ?? []).map((row) => ({ ...defaults.flag, ...row })),
    kill_switches: (rows.kill_switches ?? []).map((row) => ({ ...defaults.kill_switch, ...row })),
    pairs: (rows.pairs ?? []).map(pairRow),
    settings: rows.settings ?? {},
  };
}

export function pairRow(row: Row): Row {
  const cohort = { ...(defaults.pair?.cohort ?? {}), ...(isRow(row.cohort) ? row.cohort : {}) };
  return { ...defaults.pair, ...row, cohort };
}

/** Returns a snapshot; the vectors' defaults for kill switches differ, so they are given. */
export function snapshotOf(input: Row, killSwitchDefaults: Row): Snapshot {
  const list = (key: string): Row[] => {
    const value = input[key];
    return Array.isArray(value) ? value.filter(isRow) : [];
  };
  return buildSnapshot({
    version: 7,
    origin: "database",
    flags: list("flags").map((row) => parseFlag({ ...defaults.flag, ...row })),
    killSwitches: list("kill_switches").map((row) =>
      parseKillSwitch({ ...killSwitchDefaults, ...row })
    ),
    pairs: [parsePair(pairRow(isRow(input.pair) ? input.pair : {}))],
  });
}
