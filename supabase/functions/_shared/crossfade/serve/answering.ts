/**
 * The end of a request: headers on every answer, then counting and comparing behind it.
 *
 * @module
 */

import type { Outcome, Version } from "../contract.ts";
import type { View } from "../flags/flags_client.ts";
import type { Problem } from "../http/errors.ts";
import { problemResponse, setAnswerHeaders } from "../http/http.ts";
import type { Negotiated } from "../negotiation/negotiation.ts";
import type { Answer, Call } from "./call.ts";
import { ConversionError } from "./convert.ts";
import { readDeprecation } from "./deprecation.ts";
import type { Options } from "./options.ts";
import { toProblem } from "./problems.ts";
import { StoreError } from "../http/store_error.ts";

/** What is known about a request so far: an error's answer carries it too. */
export class Progress {
  readonly request: Request;
  readonly url: URL;
  readonly requestId: string;
  negotiated: Negotiated | undefined;
  source: Negotiated["source"] = "default";
  view: View | undefined;
  call: Call | undefined;
  /** Operators' own requests say nothing about the migration. */
  uncounted = false;

  constructor(request: Request) {
    this.request = request;
    this.url = new URL(request.url);
    const given = request.headers.get("x-request-id") ?? "";
    this.requestId = /^[\w.-]{1,100}$/.test(given) ? given : crypto.randomUUID();
  }
}

/** A request that runs, with what its isolate shares between requests. */
export interface Running {
  readonly options: Options;
  readonly progress: Progress;
  readonly startedAt: number;
  readonly shadow: { busy: boolean };
}

/** Adds the headers of a success. */
export function describe(
  { options }: Running,
  call: Call,
  { answer, response }: { readonly answer: Answer; readonly response: Response },
): void {
  const { view, negotiated, requestId, choice } = call;
  const fell = answer.fellBack;
  setAnswerHeaders(response.headers, {
    version: negotiated.version,
    source: negotiated.source,
    requestId,
    backend: answer.backend,
    flagsVersion: view.snapshot.version,
    reason: fell === undefined ? choice.reason : fell.fenced ? "DISABLED" : "ERROR",
  }, readDeprecation(view.snapshot, options));
  announceSuccessor(options, response.headers, negotiated);
}

/** Names the same resource in V2 on answers that announce the end of V1. */
function announceSuccessor(
  { name }: Options,
  headers: Headers,
  negotiated: Negotiated | undefined,
): void {
  if (negotiated?.version !== 1 || !headers.has("deprecation")) return;
  const path = `/functions/v1/${name}/v2${negotiated.resource}`;
  headers.append("Link", `<${path}>; rel="successor-version"`);
}

/** Counts and compares behind the response. */
export function finish(running: Running, call: Call, answer: Answer): void {
  if (answer.uncounted === true) return;
  const { options, startedAt } = running;
  const latencyMs = performance.now() - startedAt - (answer.modelMs ?? 0);
  const { fellBack } = answer;
  if (fellBack === undefined || fellBack.fenced) {
    // A fenced write is a kill switch at work and no failure of backend 2. Were it counted as one,
    // an operator's kill under load would look like an outage and be rolled back automatically.
    count(options, call, { backend: answer.backend, outcome: "ok", latencyMs });
  } else {
    // Counted as backend 2's: a fallback that looked like a success of V1 would hide the failure.
    count(options, call, { backend: 2, outcome: "fallback", latencyMs });
    options.log("Fell back to backend 1", fellBack.cause);
  }
  if (fellBack !== undefined) options.flags.hint();
  if (answer.shadow !== undefined) shadowRead(running, call, answer.shadow);
}

interface Counted {
  readonly backend: Version;
  readonly outcome: Outcome;
  readonly latencyMs: number;
}

const FAILURES: ReadonlySet<Outcome> = new Set(["error", "fallback"]);

function count(options: Options, call: Call, { backend, outcome, latencyMs }: Counted): void {
  options.recorder.record({
    pair: call.pair,
    backend_version: backend,
    wire_version: call.negotiated.version,
    outcome,
    latency_ms: Math.max(0, Math.round(latencyMs * 1000) / 1000),
    flags_version: call.view.snapshot.version,
    // The database tells one caller's own trouble from a backend's by the callers that have it.
    ...(FAILURES.has(outcome) ? { caller: options.hashCaller(call.caller.userId) } : {}),
  });
}

/** Compares a sample with the other table, one at a time, so that it cannot pile up. */
function shadowRead(
  { options, shadow }: Running,
  call: Call,
  compare: () => Promise<boolean | undefined>,
): void {
  const { snapshot } = call.view;
  if (snapshot.pairs.get(call.pair)?.stage !== "shadow" || shadow.busy) return;
  const rate = Number(snapshot.settings.get("shadow_sample_rate") ?? 0);
  if (!(options.random() < rate)) return;
  shadow.busy = true;
  const startedAt = performance.now();
  const work = compare().then((match) => {
    if (match === undefined) return;
    const outcome = match ? "shadow_match" : "shadow_mismatch";
    count(options, call, { backend: 2, outcome, latencyMs: performance.now() - startedAt });
  }).catch((error: unknown) => {
    // A comparison that could not be made says nothing about the data.
    options.log("Cannot compare in shadow", error);
  }).finally(() => {
    shadow.busy = false;
  });
  options.background(work);
}

/** Answers an error with the same headers as a success. */
export function refuse(running: Running, error: unknown): Response {
  const { options, progress } = running;
  const problem = recordFailure(running, error);
  const response = problemResponse(problem, {
    instance: progress.url.pathname,
    requestId: progress.requestId,
  });
  const { call, view } = progress;
  setAnswerHeaders(response.headers, {
    version: progress.negotiated?.version ?? 1,
    source: progress.source,
    requestId: progress.requestId,
    ...(call === undefined ? {} : { backend: call.choice.backend, reason: call.choice.reason }),
    ...(view === undefined ? {} : { flagsVersion: view.snapshot.version }),
  }, view === undefined ? options.deprecation : readDeprecation(view.snapshot, options));
  announceSuccessor(options, response.headers, progress.negotiated);
  return response;
}

/** Logs and counts a failed request; returns what the client is told of it. */
export function recordFailure(
  { options, progress, startedAt }: Running,
  error: unknown,
): Problem {
  const problem = toProblem(error);
  if (problem.status >= 500) options.log(`Request ${progress.requestId} failed`, error);
  if (error instanceof StoreError && (error.fenced || error.archived)) options.flags.hint();
  const { call } = progress;
  if (call === undefined || progress.uncounted) return problem;
  // What was converted before it was refused may be the converter's fault, or one caller's: the
  // database tells them apart. A body
  // that cannot be converted is his own: the database, which knows forged tokens, has not seen it.
  const { backend } = call.choice;
  const converted = error instanceof ConversionError
    ? error.from === backend
    : error instanceof StoreError && error.invalid && call.body.version !== backend;
  const outcome = problem.status >= 500 || (converted && backend === 2) ? "error" : "client_error";
  const latencyMs = performance.now() - startedAt;
  count(options, call, { backend, outcome, latencyMs });
  return problem;
}

/** Logs one line about a request: who asked for what is in no log, only addresses and ids. */
export function logRequest({ options, progress, startedAt }: Running, status: number): void {
  if (!options.verbose) return;
  const { request, url, requestId, negotiated, call } = progress;
  const version = negotiated === undefined
    ? "-"
    : `V${negotiated.version}${negotiated.conflict ? " (other sources disagree)" : ""}`;
  const backend = call === undefined ? "-" : call.choice.backend;
  const latencyMs = Math.round(performance.now() - startedAt);
  options.log(
    `${request.method} ${url.pathname} ${status} ${version} backend ${backend} ${latencyMs} ms ${requestId}`,
  );
}
