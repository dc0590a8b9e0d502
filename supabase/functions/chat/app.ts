/**
 * The chat function as one function from request to response; reads no environment and serves
 * nothing by itself.
 *
 * @module
 */

import type { Outcome, Version } from "../_shared/crossfade/contract.ts";
import { Problem } from "../_shared/crossfade/errors.ts";
import type { FlagsClient, View } from "../_shared/crossfade/flags_client.ts";
import {
  type BodyLimits,
  DEFAULT_LIMITS,
  type Deprecation,
  isPreflight,
  preflightResponse,
  problemResponse,
  readJson,
  setAnswerHeaders,
} from "../_shared/crossfade/http.ts";
import type { RequestRecorder } from "../_shared/crossfade/metrics.ts";
import { bodyVersion, checkBodyTag, type Negotiated } from "../_shared/crossfade/negotiation.ts";
import { type Converter, detectVersion, routeRequest } from "./adapters/api_version_router.ts";
import { isUuid, readCaller } from "./claims.ts";
import { isObject } from "./handlers/format.ts";
import { builtInModel, type Model } from "./model.ts";
import { discovery, findRoute, type Route } from "./routes.ts";
import { toProblem } from "./problems.ts";
import { type OpenStore, StoreError } from "./store.ts";
import type { Answer, Body, Call } from "./types.ts";

export interface AppOptions {
  readonly openStore: OpenStore;
  readonly converter: Converter;
  readonly flags: FlagsClient;
  readonly recorder: Pick<RequestRecorder, "record">;
  readonly model?: Model;
  /** @defaultValue "chat_messages" */
  readonly pair?: string;
  readonly deprecation?: Deprecation;
  readonly disabledVersions?: readonly number[];
  readonly retiredVersions?: readonly number[];
  readonly limits?: BodyLimits;
  /** Keeps the isolate alive for work behind a response. */
  readonly background?: (work: Promise<unknown>) => void;
  readonly random?: () => number;
  readonly log?: (message: string, error?: unknown) => void;
}

type Options = Required<AppOptions>;

/** A function from request to response; never rejects. */
export type App = (request: Request) => Promise<Response>;

/** Makes the chat function. */
export function createApp(given: AppOptions): App {
  const options: Options = {
    model: builtInModel,
    pair: "chat_messages",
    deprecation: {},
    disabledVersions: [],
    retiredVersions: [],
    limits: DEFAULT_LIMITS,
    background: (work) => void work.catch(() => {}),
    random: Math.random,
    log: (message, error) => console.error(message, error ?? ""),
    ...given,
  };
  const shadow = { busy: false };
  return async (request) => {
    if (isPreflight(request)) return preflightResponse();
    const startedAt = performance.now();
    const progress = new Progress(request);
    try {
      return await respond(options, progress, { startedAt, shadow });
    } catch (error) {
      return refuse(options, progress, { startedAt, error });
    }
  };
}

/** What is known about a request so far: an error's answer carries it too. */
class Progress {
  readonly request: Request;
  readonly url: URL;
  readonly requestId: string;
  negotiated: Negotiated | undefined;
  source: Negotiated["source"] = "default";
  view: View | undefined;
  call: Call | undefined;

  constructor(request: Request) {
    this.request = request;
    this.url = new URL(request.url);
    const given = request.headers.get("x-request-id") ?? "";
    this.requestId = /^[\w.-]{1,100}$/.test(given) ? given : crypto.randomUUID();
  }
}

interface Timing {
  readonly startedAt: number;
  readonly shadow: { busy: boolean };
}

async function respond(options: Options, progress: Progress, timing: Timing): Promise<Response> {
  const negotiated = negotiate(options, progress);
  if (progress.request.method === "OPTIONS") return describe(options, progress, negotiated);
  const route = findRoute(progress.request.method, negotiated.resource);
  const call = await begin(options, progress, negotiated, route);
  const store = options.openStore(call.caller);
  const { pair, converter, model } = options;
  const answer = await route.handle(call, { pair, converter, store, model });
  const response = answer.body === undefined
    ? new Response(null, { status: answer.status })
    : new Response(JSON.stringify(answer.body), {
      status: answer.status,
      headers: { "Content-Type": negotiated.contentType },
    });
  finish(options, progress, { ...timing, answer, response });
  return response;
}

function negotiate(options: Options, progress: Progress): Negotiated {
  const { headers } = progress.request;
  const result = detectVersion({ headers, path: progress.url.pathname }, {
    disabled: options.disabledVersions,
    retired: options.retiredVersions,
  });
  progress.source = result.source;
  if (result.kind === "refused") throw result.problem;
  progress.negotiated = result;
  return result;
}

async function begin(
  options: Options,
  progress: Progress,
  negotiated: Negotiated,
  route: Route,
): Promise<Call> {
  const { request, url, requestId } = progress;
  const caller = readCaller(request.headers.get("authorization"));
  const body = await readBody(options, request, { wire: negotiated.version, route });
  const pending = options.flags.view();
  // Awaiting a value that is there already would still cost a turn of the event loop.
  const view = pending instanceof Promise ? await pending : pending;
  progress.view = view;
  const context = {
    user_id: caller.userId,
    agent_id: agentOf(request, body),
    conversation_id: conversationOf(url, body),
  };
  const choice = routeRequest(view, options.pair, context);
  const call = { request, url, requestId, negotiated, caller, view, context, choice, body };
  progress.call = call;
  return call;
}

async function readBody(
  options: Options,
  request: Request,
  { wire, route }: { readonly wire: Version; readonly route: Route },
): Promise<Body> {
  if (!route.hasBody) return { value: {}, version: wire };
  const version = bodyVersion(request.headers.get("content-type"), { wire });
  const value = await readJson(request, options.limits);
  if (!isObject(value)) {
    throw new Problem("invalid-body", { status: 400, detail: "The body is not a JSON object" });
  }
  checkBodyTag(value, version);
  return { value, version };
}

function agentOf(request: Request, body: Body): string | undefined {
  const header = request.headers.get("x-agent-id");
  if (header !== null && header !== "") return header;
  const { agent_id: given, metadata } = body.value;
  const agent = given ?? (isObject(metadata) ? metadata.agent_id : undefined);
  return typeof agent === "string" ? agent : undefined;
}

function conversationOf(url: URL, body: Body): string | undefined {
  const id = body.value.chat_id ?? url.searchParams.get("chat_id");
  return isUuid(id) ? id.toLowerCase() : undefined;
}

function describe(options: Options, progress: Progress, negotiated: Negotiated): Response {
  const response = Response.json(discovery());
  setAnswerHeaders(response.headers, {
    version: negotiated.version,
    source: negotiated.source,
    requestId: progress.requestId,
  }, options.deprecation);
  return response;
}

/** Adds the headers, then counts and compares behind the response. */
function finish(
  options: Options,
  progress: Progress,
  { answer, response, startedAt, shadow }: Timing & { answer: Answer; response: Response },
): void {
  const { call } = progress;
  if (call === undefined) return;
  setAnswerHeaders(response.headers, {
    version: call.negotiated.version,
    source: call.negotiated.source,
    requestId: call.requestId,
    backend: answer.backend,
    flagsVersion: call.view.snapshot.version,
    reason: answer.fellBack === undefined
      ? call.choice.reason
      : answer.fellBack.fenced
      ? "DISABLED"
      : "ERROR",
  }, options.deprecation);
  const latencyMs = performance.now() - startedAt - (answer.modelMs ?? 0);
  if (answer.fellBack === undefined) {
    count(options, call, { backend: answer.backend, outcome: "ok", latencyMs });
  } else {
    // Counted as backend 2's: a fallback that looked like a success of V1 would hide the failure.
    count(options, call, { backend: 2, outcome: "fallback", latencyMs });
    if (!answer.fellBack.fenced) options.log("Fell back to backend 1", answer.fellBack.cause);
    options.flags.refreshNow();
  }
  if (answer.shadow !== undefined) shadowRead(options, call, { compare: answer.shadow, shadow });
}

interface Counted {
  readonly backend: Version;
  readonly outcome: Outcome;
  readonly latencyMs: number;
}

function count(options: Options, call: Call, { backend, outcome, latencyMs }: Counted): void {
  options.recorder.record({
    pair: options.pair,
    backend_version: backend,
    wire_version: call.negotiated.version,
    outcome,
    latency_ms: Math.max(0, Math.round(latencyMs * 1000) / 1000),
    flags_version: call.view.snapshot.version,
  });
}

/** Compares a sample with the other table, one at a time, so that it cannot pile up. */
function shadowRead(
  options: Options,
  call: Call,
  { compare, shadow }: { compare: () => Promise<boolean | undefined>; shadow: { busy: boolean } },
): void {
  const { snapshot } = call.view;
  if (snapshot.pairs.get(options.pair)?.stage !== "shadow" || shadow.busy) return;
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
function refuse(
  options: Options,
  progress: Progress,
  { error, startedAt }: { readonly error: unknown; readonly startedAt: number },
): Response {
  const problem = toProblem(error);
  if (problem.status >= 500) options.log(`Request ${progress.requestId} failed`, error);
  if (error instanceof StoreError && (error.fenced || error.archived)) options.flags.refreshNow();
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
  }, options.deprecation);
  if (call !== undefined) {
    const outcome = problem.status >= 500 ? "error" : "client_error";
    const latencyMs = performance.now() - startedAt;
    count(options, call, { backend: call.choice.backend, outcome, latencyMs });
  }
  return response;
}
