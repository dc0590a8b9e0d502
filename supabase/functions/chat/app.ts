/**
 * The chat function as one function from request to response; reads no environment and serves
 * nothing by itself.
 *
 * @module
 */

import type { Version } from "../_shared/crossfade/contract.ts";
import { Problem } from "../_shared/crossfade/errors.ts";
import {
  DEFAULT_LIMITS,
  isPreflight,
  preflightResponse,
  readJson,
  setAnswerHeaders,
} from "../_shared/crossfade/http.ts";
import { bodyVersion, checkBodyTag, type Negotiated } from "../_shared/crossfade/negotiation.ts";
import { detectVersion, routeRequest } from "./adapters/api_version_router.ts";
import { finish, Progress, refuse, type Timing } from "./answering.ts";
import { isUuid, readCaller } from "./claims.ts";
import { isObject } from "./handlers/format.ts";
import { builtInModel } from "./model.ts";
import type { AppOptions, Options } from "./options.ts";
import { discovery, findRoute, type Route } from "./routes.ts";
import type { Body, Call } from "./types.ts";

export type { AppOptions } from "./options.ts";

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
