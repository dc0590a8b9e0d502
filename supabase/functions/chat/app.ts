/**
 * The chat function as one function from request to response; reads no environment and serves
 * nothing by itself.
 *
 * @module
 */

import type { Version } from "../_shared/crossfade/contract.ts";
import { Problem } from "../_shared/crossfade/http/errors.ts";
import {
  DEFAULT_LIMITS,
  isPreflight,
  preflightResponse,
  readJson,
  setAnswerHeaders,
} from "../_shared/crossfade/http/http.ts";
import {
  bodyVersion,
  checkBodyTag,
  type Negotiated,
} from "../_shared/crossfade/negotiation/negotiation.ts";
import { detectVersion, routeRequest } from "./adapters/api_version_router.ts";
import { isKept } from "./adapters/feature_flags.ts";
import { describe, finish, logRequest, Progress, refuse, type Timing } from "./answering.ts";
import { BUILT_IN_NAME, builtInModel } from "./model/built_in_model.ts";
import { isUuid, readCaller } from "../_shared/crossfade/serve/claims.ts";
import { isObject } from "./formats/format.ts";
import { loggable } from "./loggable.ts";
import type { AppOptions, Options } from "./options.ts";
import { discovery, findRoute, type Route } from "./handlers/routes.ts";
import { streamEvents } from "./streaming.ts";
import type { Body, Call, Caller } from "./types.ts";

export type { AppOptions } from "./options.ts";

/** A function from request to response; never rejects. */
export type App = (request: Request) => Promise<Response>;

/** Makes the chat function. */
export function createApp(given: AppOptions): App {
  const options: Options = {
    model: builtInModel,
    modelName: BUILT_IN_NAME,
    pair: "chat_messages",
    deprecation: {},
    disabledVersions: [],
    retiredVersions: [],
    limits: DEFAULT_LIMITS,
    background: (work) => void work.catch(() => {}),
    random: Math.random,
    now: () => new Date(),
    compatibilityOff: false,
    verbose: false,
    log: (message, error) => console.error(message, loggable(error)),
    ...given,
  };
  const shadow = { busy: false };
  return async (request) => {
    const startedAt = performance.now();
    const progress = new Progress(request);
    try {
      const response = isPreflight(request)
        ? permit(options, progress)
        : await respond(options, progress, { startedAt, shadow });
      if (!isStream(response)) {
        logRequest(options, progress, { status: response.status, startedAt });
      }
      return response;
    } catch (error) {
      const response = refuse(options, progress, { startedAt, error });
      logRequest(options, progress, { status: response.status, startedAt });
      return response;
    }
  };
}

function isStream(response: Response): boolean {
  return response.headers.get("content-type") === "text/event-stream";
}

async function respond(options: Options, progress: Progress, timing: Timing): Promise<Response> {
  const negotiated = negotiate(options, progress);
  if (progress.request.method === "OPTIONS") return tell(options, progress, negotiated);
  const route = findRoute(progress.request.method, negotiated.resource);
  progress.uncounted = route.operators === true;
  const call = await begin(options, progress, negotiated, route);
  if (!progress.uncounted) checkCompatibility(options, call);
  const store = options.openStore(call.caller);
  const features = options.openFeatures(call.caller);
  const noteVersion = (version: unknown): void => options.flags.noteVersion(version);
  const answer = await route.handle(call, { ...options, store, features, noteVersion });
  const { body, events, status } = answer;
  const type = events === undefined ? negotiated.contentType : "text/event-stream";
  const content = events !== undefined
    ? streamEvents(options, progress, { ...timing, call, events })
    : body === undefined
    ? null
    : JSON.stringify(body);
  const headers: HeadersInit = content === null ? {} : { "Content-Type": type };
  const response = new Response(content, { status, headers });
  describe(options, call, { answer, response });
  if (events === undefined && !progress.uncounted) finish(options, call, { ...timing, answer });
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
  const caller = route.operators === true
    ? NOBODY
    : readCaller(request.headers.get("authorization"));
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

/** An operator's request touches no rows of users; its rights are checked where it goes. */
const NOBODY: Caller = { authorization: "", userId: "" };

/** Refuses V1 clients once the owner has switched their format off. @throws {Problem} 410 */
function checkCompatibility(options: Options, { view, negotiated, context }: Call): void {
  if (negotiated.version !== 1) return;
  const unread = view.snapshot.origin !== "database";
  if (unread ? !options.compatibilityOff : isKept(view, "enable_compatibility_mode", context)) {
    return;
  }
  throw new Problem("version-retired", {
    status: 410,
    detail: "API version 1 is no longer offered; ask for version 2",
    members: { requested: "1", source: negotiated.source, supported: ["2"] },
  });
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

/** Answers a browser that asks for permission; it cannot say its version but in the address. */
function permit(options: Options, progress: Progress): Response {
  const response = preflightResponse();
  const { headers } = response;
  const vary = headers.get("vary") ?? "";
  const path = progress.url.pathname;
  const asked = detectVersion({ headers: new Headers(), path }, { disabled: [], retired: [] });
  const version = asked.kind === "negotiated" ? asked.version : 1;
  const { requestId } = progress;
  setAnswerHeaders(headers, { version, source: asked.source, requestId }, options.deprecation);
  // The answer is the same for everybody, so the browser may keep it.
  headers.delete("Cache-Control");
  headers.set("Vary", vary);
  return response;
}

function tell(options: Options, progress: Progress, negotiated: Negotiated): Response {
  const response = Response.json(discovery());
  setAnswerHeaders(response.headers, {
    version: negotiated.version,
    source: negotiated.source,
    requestId: progress.requestId,
  }, options.deprecation);
  return response;
}
