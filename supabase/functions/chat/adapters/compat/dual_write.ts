/**
 * Looks after dual write. The writing itself is done by the database's triggers, in the writer's
 * transaction: an edge function that wrote twice could stop between the two.
 *
 * @module
 */

import { isRow, type Row } from "../../../_shared/crossfade/snapshot.ts";
import { callForRow, count, type RpcCaller } from "./rpc.ts";

/** State of a pair's mirror. */
export interface DualWriteState {
  readonly mirrored: boolean;
  readonly stage: string;
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
}

function findPair(answer: Row, name: string): Row {
  const pairs: readonly unknown[] = Array.isArray(answer.pairs) ? answer.pairs : [];
  const pair = pairs.filter(isRow).find((row) => row.name === name);
  if (pair !== undefined) return pair;
  throw new TypeError(`Cannot read dual write of "${name}": the database does not list the pair`);
}
