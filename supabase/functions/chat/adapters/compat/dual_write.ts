/**
 * Looks after dual write. The writing itself is done by the database's triggers, in the writer's
 * transaction: an edge function that wrote twice could stop between the two.
 *
 * @module
 */

import { isRow, type Row } from "../../../_shared/crossfade/flags/snapshot.ts";
import { callForRow, count, type RpcCaller } from "./rpc.ts";

/** State of a pair's mirror. */
export interface DualWriteState {
  readonly mirrored: boolean;
  readonly stage: string;
  /**
   * What a write does whose mirrored row cannot be written: with `record` it succeeds and its key
   * waits for repair, with `raise` it fails as a whole.
   */
  readonly failurePolicy: "record" | "raise";
  /** Writes whose mirrored row could not be written and that wait for repair. */
  readonly openFailures: number;
  readonly openMismatches: number;
  /** Mirrored writes that hit no row where one was expected. */
  readonly drift: number;
}

export interface RepairResult {
  readonly repaired: number;
  readonly remaining: number;
  readonly failed: number;
}

/** What was done about writes whose mirrored row is missing. */
export interface SettleResult extends RepairResult {
  readonly failurePolicy: DualWriteState["failurePolicy"];
  /** Whether nothing is behind any more. */
  readonly settled: boolean;
}

export class DualWriteService {
  readonly #rpc: RpcCaller;
  readonly #pair: string;

  constructor(rpc: RpcCaller, pair: string) {
    this.#rpc = rpc;
    this.#pair = pair;
  }

  /**
   * Tells whether both tables are written and whether anything is behind.
   *
   * @throws {TypeError} if the database does not list the pair
   */
  async state(): Promise<DualWriteState> {
    const answer = await callForRow(this.#rpc, "pair_status", { pair: this.#pair });
    const pair = findPair(answer, this.#pair);
    return {
      mirrored: pair.mirror === "both",
      stage: String(pair.stage),
      failurePolicy: pair.failure_policy === "raise" ? "raise" : "record",
      openFailures: count(pair, "open_failures"),
      openMismatches: count(pair, "open_mismatches"),
      drift: count(pair, "drift_count"),
    };
  }

  /** Makes the follower equal to the leader for rows known to differ. Safe to repeat. */
  async repair(reason: string, maxRows = 500): Promise<RepairResult> {
    const parameters = { pair: this.#pair, max_rows: maxRows, reason };
    const answer = await callForRow(this.#rpc, "repair", parameters);
    return {
      repaired: count(answer, "repaired"),
      remaining: count(answer, "remaining"),
      failed: count(answer, "failed"),
    };
  }

  /**
   * Handles failed mirror writes as the pair's policy says: `record` has left them open, so they
   * are repaired now; `raise` has refused them, so the client that was told writes again.
   */
  async settle(reason: string, maxRows = 500): Promise<SettleResult> {
    const { failurePolicy, openFailures } = await this.state();
    if (openFailures === 0) {
      return { failurePolicy, settled: true, repaired: 0, remaining: 0, failed: 0 };
    }
    // Also with policy raise: a pair may have been on record when they failed.
    const result = await this.repair(reason, maxRows);
    return { failurePolicy, settled: result.remaining === 0 && result.failed === 0, ...result };
  }
}

function findPair(answer: Row, name: string): Row {
  const pairs: readonly unknown[] = Array.isArray(answer.pairs) ? answer.pairs : [];
  const pair = pairs.filter(isRow).find((row) => row.name === name);
  if (pair !== undefined) return pair;
  throw new TypeError(`Cannot read dual write of "${name}": the database does not list the pair`);
}
