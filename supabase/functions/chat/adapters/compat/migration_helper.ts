/**
 * Moves old rows in small batches, from wherever there is a moment.
 *
 * @module
 */

import { isRow, type Row } from "../../../_shared/crossfade/flags/snapshot.ts";
import { callForRow, count, type RpcCaller } from "./rpc.ts";

export interface MigrationProgress {
  readonly run: number;
  /** `running`, `waiting`, `throttled`, `paused`, `finished` or `cancelled`. */
  readonly state: string;
  readonly rowsWritten: number;
}

/** How far a run is. Rows are the planner's estimate until it has finished. */
export interface RunProgress {
  readonly run: number;
  readonly state: string;
  /** Why it waits, when it does. */
  readonly reason: string | null;
  readonly rowsDone: number;
  readonly rowsTotal: number;
  /** 0 to 1. */
  readonly doneRate: number;
  readonly rowsPerS: number;
  /** `null` while nothing can be said. */
  readonly secondsLeft: number | null;
}

export interface Violation {
  readonly law: number;
  readonly key: unknown;
  readonly columns: readonly string[];
}

export type RunAction = "pause" | "resume" | "cancel";

export class MigrationHelper {
  readonly #rpc: RpcCaller;
  readonly #pair: string;

  constructor(rpc: RpcCaller, pair: string) {
    this.#rpc = rpc;
    this.#pair = pair;
  }

  /** Copies one batch of old messages to V2; starts the run, or joins the one that is under way. */
  async migrateBatch(targetMs = 500): Promise<MigrationProgress> {
    const started = await callForRow(this.#rpc, "start_backfill", { pair: this.#pair });
    const run = isRow(started.run) ? count(started.run, "id") : 0;
    const batch = await callForRow(this.#rpc, "backfill_batch", { run, target_ms: targetMs });
    return { run, state: String(batch.state), rowsWritten: count(batch, "rows_written") };
  }

  /** Tells how far a run is. */
  async progress(run: number): Promise<RunProgress> {
    const answer = await callForRow(this.#rpc, "run_status", { run });
    return readProgress(isRow(answer.run) ? answer.run : {});
  }

  /** Stops taking batches, goes on, or gives the run up; rows that were copied stay. */
  async control(run: number, action: RunAction, reason: string): Promise<void> {
    await callForRow(this.#rpc, "control_run", { run, action, reason });
  }

  /** Proves the conversion on stored rows of one side; an empty list means no law is broken. */
  async check(side: 1 | 2, maxRows = 1000): Promise<readonly Violation[]> {
    const parameters = { pair: this.#pair, side, max_rows: maxRows };
    const answer = await callForRow(this.#rpc, "check_conversion", parameters);
    const violations: readonly unknown[] = Array.isArray(answer.violations)
      ? answer.violations
      : [];
    return violations.filter(isRow).map((row) => ({
      law: count(row, "law"),
      key: row.key,
      columns: Array.isArray(row.columns) ? row.columns.map(String) : [],
    }));
  }
}

function readProgress(row: Row): RunProgress {
  const rowsDone = count(row, "rows_done");
  const isDone = row.state === "finished";
  const rowsTotal = isDone ? rowsDone : Math.max(count(row, "rows_total"), rowsDone);
  const seconds = (Date.parse(String(row.progress_at)) - Date.parse(String(row.started_at))) / 1000;
  const rowsPerS = seconds > 0 ? rowsDone / seconds : 0;
  const left = rowsPerS > 0 ? (rowsTotal - rowsDone) / rowsPerS : null;
  return {
    run: count(row, "id"),
    state: String(row.state),
    reason: typeof row.reason === "string" ? row.reason : null,
    rowsDone,
    rowsTotal,
    doneRate: isDone || rowsTotal === 0 ? Number(isDone) : rowsDone / rowsTotal,
    rowsPerS,
    secondsLeft: isDone ? 0 : left,
  };
}
