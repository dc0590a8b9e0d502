/**
 * Moves old rows in small batches, from wherever there is a moment.
 *
 * @module
 */

import { isRow } from "../../../_shared/crossfade/snapshot.ts";
import { callForRow, count, type RpcCaller } from "./rpc.ts";

export interface MigrationProgress {
  readonly run: number;
  /** `running`, `waiting`, `throttled`, `paused`, `finished` or `cancelled`. */
  readonly state: string;
  readonly rowsWritten: number;
}

export interface Violation {
  readonly law: number;
  readonly key: unknown;
  readonly columns: readonly string[];
}

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
