/**
 * For operators only: how the pair fares, and the ways back.
 *
 * Who is an operator the database decides: every call goes there with the sender's own credentials.
 *
 * @module
 */

import { LEVELS } from "../../_shared/crossfade/contract.ts";
import type { RpcCaller } from "../../_shared/crossfade/serve/operator_rpc.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import {
  DualWriteService,
  MigrationHelper,
  RollbackManager,
  type RunAction,
} from "../adapters/compatibility_layer.ts";
import { healthReport } from "../adapters/rollback_procedures.ts";
import { StoreError } from "../../_shared/crossfade/http/store_error.ts";
import type { Answer, Call, Message } from "../types.ts";
import { invalid } from "./format.ts";
import type { Tools } from "./tools.ts";

/** `GET /health` */
export async function readHealth(call: Call, tools: Tools): Promise<Answer> {
  const { settings } = call.view.snapshot;
  const rpc = tools.openOperator(call.request.headers);
  const report = await forOperators(healthReport(rpc, { pair: tools.pair, settings }));
  const body = { ...report, thresholds: inSnakeCase(report.thresholds) };
  return { status: 200, body, backend: call.choice.backend };
}

/** `POST /rollback` {level, scope?, reason, dry_run?}; a plan only unless `dry_run` is false. */
export async function rollBack(call: Call, tools: Tools): Promise<Answer> {
  const { level: given, scope = tools.pair, reason, dry_run: dryRun = true } = call.body.value;
  const level = LEVELS.find((known) => known === given);
  if (level === undefined) throw invalid(`Field "level" is not one of ${LEVELS.join(", ")}`);
  if (typeof scope !== "string") throw invalid(`Field "scope" is not a name`);
  if (typeof dryRun !== "boolean") throw invalid(`Field "dry_run" is not true or false`);
  const rpc = tools.openOperator(call.request.headers);
  const manager = new RollbackManager(rpc, tools.noteVersion);
  const request = { level, scope, reason: readReason(reason) };
  const result = await forOperators(dryRun ? manager.plan(request) : manager.execute(request));
  const body = inSnakeCase({ ...result, dryRun });
  return { status: 200, body, backend: call.choice.backend };
}

/** `POST /rollback/undo` {snapshot, reason}: the control state that was saved before a rollback. */
export async function undoRollback(call: Call, tools: Tools): Promise<Answer> {
  const { snapshot, reason } = call.body.value;
  if (!Number.isSafeInteger(snapshot)) throw invalid(`Field "snapshot" is not a number`);
  const rpc = tools.openOperator(call.request.headers);
  const manager = new RollbackManager(rpc, tools.noteVersion);
  await forOperators(manager.undo(Number(snapshot), readReason(reason)));
  return { status: 204, backend: call.choice.backend };
}

/** `GET /migration?run=`: whether both tables are written, and how far a run is. */
export async function readMigration(call: Call, tools: Tools): Promise<Answer> {
  const rpc = tools.openOperator(call.request.headers);
  const run = call.url.searchParams.get("run");
  if (run !== null && !/^[0-9]{1,15}$/.test(run)) {
    const detail = `Parameter "run" is not a number`;
    throw new Problem("invalid-body", { status: 400, detail });
  }
  const dualWrite = await forOperators(new DualWriteService(rpc, tools.pair).state());
  const progress = run === null
    ? {}
    : { run: inSnakeCase(await forOperators(new MigrationHelper(rpc, tools.pair).progress(+run))) };
  const body = { pair: tools.pair, dual_write: inSnakeCase(dualWrite), ...progress };
  return { status: 200, body, backend: call.choice.backend };
}

/**
 * `POST /migration` {action, ...}: `copy` {target_ms?} one batch, `settle` {reason, max_rows?} what the
 * mirror could not write, `check` {side, max_rows?} the converters, `pause`, `resume` or `cancel`
 * {run, reason} a run.
 */
export async function migrate(call: Call, tools: Tools): Promise<Answer> {
  const rpc = tools.openOperator(call.request.headers);
  const found = await forOperators(act(call.body.value, tools.pair, rpc));
  return { status: 200, body: inSnakeCase(found ?? {}), backend: call.choice.backend };
}

const RUN_ACTIONS: readonly RunAction[] = ["pause", "resume", "cancel"];

function act(body: Message, pair: string, rpc: RpcCaller): Promise<object | void> {
  const { action, reason, side } = body;
  const helper = new MigrationHelper(rpc, pair);
  const most = readCount(body, "max_rows");
  if (action === "copy") return helper.migrateBatch(readCount(body, "target_ms"));
  if (action === "settle") return new DualWriteService(rpc, pair).settle(readReason(reason), most);
  if (action === "check") {
    if (side !== 1 && side !== 2) throw invalid(`Field "side" is neither 1 nor 2`);
    return helper.check(side, most).then((violations) => ({ violations }));
  }
  const known = RUN_ACTIONS.find((name) => name === action);
  const run = readCount(body, "run");
  if (known !== undefined && run !== undefined) {
    return helper.control(run, known, readReason(reason));
  }
  const names = ["copy", "settle", "check", ...RUN_ACTIONS].join(", ");
  throw invalid(`Field "action" is not one of ${names}, or "run" is missing`);
}

function readReason(reason: unknown): string {
  if (typeof reason === "string") return reason;
  throw invalid(`Field "reason" is not text`);
}

function readCount(body: Message, name: string): number | undefined {
  const value = body[name];
  if (value === undefined) return undefined;
  if (Number.isSafeInteger(value) && Number(value) > 0) return Number(value);
  throw invalid(`Field "${name}" is not a number above 0`);
}

/** Names as the rest of the API writes them. */
function inSnakeCase(value: object): Message {
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      item,
    ]),
  );
}

/** Says in an operator's words what the database refused. */
async function forOperators<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (!(cause instanceof StoreError) || cause.status >= 500 || !cause.refused) throw cause;
    if (cause.status === 401 || cause.status === 403 || cause.code === "42501") {
      const detail = "This is for operators: send the project's secret key or an operator's token";
      const [type, status] = cause.status === 401
        ? ["unauthorized", 401] as const
        : ["forbidden", 403] as const;
      throw new Problem(type, { status, detail, cause });
    }
    const status = cause.status === 404 ? 404 : cause.status === 409 ? 409 : 422;
    const type = status === 404 ? "not-found" : status === 409 ? "conflict" : "invalid-message";
    throw new Problem(type, { status, detail: cause.message, cause });
  }
}
