/**
 * Goes back: one transaction in the database that keeps all data.
 *
 * @module
 */

import type { Level } from "../../../_shared/crossfade/contract.ts";
import { isRow } from "../../../_shared/crossfade/flags/snapshot.ts";
import { callForRow, count, type RpcCaller } from "./rpc.ts";

/** One change a rollback makes or would make. */
export interface RollbackStep {
  readonly action: string;
  readonly object: string;
  readonly before: unknown;
  readonly after: unknown;
}

export interface RollbackResult {
  readonly level: Level;
  readonly plan: readonly RollbackStep[];
  readonly flagsVersion: number;
  /** Snapshot that undoes it; `null` for a plan that was not carried out. */
  readonly snapshot: number | null;
}

export interface RollbackRequest {
  readonly level: Level;
  /** Name of the flag for FEATURE, of the pair otherwise. */
  readonly scope: string;
  readonly reason: string;
  /** True for a decision without a person: it latches until somebody re-arms. */
  readonly automatic?: boolean;
}

export class RollbackManager {
  readonly #rpc: RpcCaller;
  readonly #onVersion: (version: number) => void;

  /** @param onVersion told the new flags version, so that this isolate follows at once */
  constructor(rpc: RpcCaller, onVersion: (version: number) => void = () => {}) {
    this.#rpc = rpc;
    this.#onVersion = onVersion;
  }

  /** Shows what a rollback would change, without changing it. */
  plan(request: RollbackRequest): Promise<RollbackResult> {
    return this.#call(request, true);
  }

  /** Rolls back. Repeating it changes nothing further at levels COMPLETE and EMERGENCY. */
  async execute(request: RollbackRequest): Promise<RollbackResult> {
    const result = await this.#call(request, false);
    this.#onVersion(result.flagsVersion);
    return result;
  }

  /**
   * Undoes a rollback: restores the control state that was saved before it.
   *
   * @param snapshot as {@link execute} returned it
   */
  async undo(snapshot: number, reason: string): Promise<void> {
    const answer = await callForRow(this.#rpc, "restore_snapshot", { id: snapshot, reason });
    this.#onVersion(count(answer, "flags_version"));
  }

  async #call(request: RollbackRequest, dryRun: boolean): Promise<RollbackResult> {
    const { level, scope, reason, automatic = false } = request;
    const parameters = { level, scope, reason, automatic, dry_run: dryRun };
    const answer = await callForRow(this.#rpc, "rollback", parameters);
    const plan: readonly unknown[] = Array.isArray(answer.plan) ? answer.plan : [];
    return {
      level,
      plan: plan.filter(isRow).map((step) => ({
        action: String(step.action),
        object: String(step.object),
        before: step.before,
        after: step.after,
      })),
      flagsVersion: count(answer, "flags_version"),
      snapshot: typeof answer.snapshot === "number" ? answer.snapshot : null,
    };
  }
}
