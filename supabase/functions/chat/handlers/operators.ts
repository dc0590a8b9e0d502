/**
 * For operators only: how the pair fares, and the ways back.
 *
 * Who is an operator the database decides: every call goes there with the sender's own credentials.
 *
 * @module
 */

import { LEVELS } from "../../_shared/crossfade/contract.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { RollbackManager } from "../adapters/compatibility_layer.ts";
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
  if (typeof reason !== "string") throw invalid(`Field "reason" is not text`);
  if (typeof dryRun !== "boolean") throw invalid(`Field "dry_run" is not true or false`);
  const rpc = tools.openOperator(call.request.headers);
  const manager = new RollbackManager(rpc, tools.noteVersion);
  const request = { level, scope, reason };
  const result = await forOperators(dryRun ? manager.plan(request) : manager.execute(request));
  const body = inSnakeCase({ ...result, dryRun });
  return { status: 200, body, backend: call.choice.backend };
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
