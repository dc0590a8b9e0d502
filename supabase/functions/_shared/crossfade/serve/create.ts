/**
 * A whole function, from request to response; reads no environment and serves nothing by itself.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import type { Context } from "../flags/evaluate.ts";
import { Problem } from "../http/errors.ts";
import {
  DEFAULT_LIMITS,
  isPreflight,
  preflightResponse,
  readJson,
  setAnswerHeaders,
} from "../http/http.ts";
import {
  bodyVersion,
  checkBodyTag,
  negotiate,
  type Negotiated,
} from "../negotiation/negotiation.ts";
import { describe, finish, logRequest, Progress, refuse, type Running } from "./answering.ts";
import { type Body, type Call, type Caller, isObject, type Route } from "./call.ts";
import { callerHash } from "./caller_hash.ts";
import { readCaller } from "./claims.ts";
import { loggable } from "./loggable.ts";
import type { FunctionOptions, Options } from "./options.ts";
import { resourceRoutes } from "./resource.ts";
import { discovery, type Found, routeTable } from "./routes.ts";
import { streamEvents } from "./streaming.ts";

/** A function from request to response; never rejects. */
export type App = (request: Request) => Promise<Response>;

/**
 * Makes a function that speaks both versions of its pairs.
 *
 * Every request: negotiate the wire version, find the route, read the flags, choose the backend,
 * handle, answer with the version headers, count behind the response.
 */
export function createCrossfadeFunction(given: FunctionOptions): App {
  const routes = [
    ...given.routes ?? [],
    ...given.pairs.flatMap((pair) => resourceRoutes(pair, given.openRows)),
  ];
  const options: Options = {
    readContext: () => ({}),
    detectVersion: negotiate,
    routeRequest: (view, pair, context) => view.chooseBackend(pair, context),
    admit: () => {},
    convertEvent: (event) => event,
    deprecation: {},
    disabledVersions: [],
    retiredVersions: [],
    limits: DEFAULT_LIMITS,
    background: (work) => void work.catch(() => {}),
    random: Math.random,
    checkToken: () => {},
    hashCaller: callerHash(crypto.randomUUID()),
    verbose: false,
    log: (message, error) => console.error(message, loggable(error)),
    about: {},
    ...given,
  };
  const find = routeTable(routes);
  const about = { ...discovery(options.name, routes), ...options.about };
  const isolate = { shadow: { busy: false } };
  return async (request) => {
    const progress = new Progress(request);
    const running: Running = { options, progress, startedAt: performance.now(), ...isolate };
    try {
      if (isPreflight(request)) return permit(options, progress);
      const negotiated = agree(options, progress);
      const response = request.method === "OPTIONS"
        ? tell(options, progress, about)
        : await respond(running, negotiated, find(request.method, negotiated.resource));
      if (!isStream(response)) logRequest(running, response.status);
      return withoutBody(request, response);
    } catch (error) {
      const response = refuse(running, error);
      logRequest(running, response.status);
      return withoutBody(request, response);
    }
  };
}

/** The answer to HEAD: the headers of GET. */
function withoutBody(request: Request, response: Response): Response {
  if (request.method !== "HEAD") return response;
  void response.body?.cancel();
  return new Response(null, response);
}

function isStream(response: Response): boolean {
  return response.headers.get("content-type") === "text/event-stream";
}

async function respond(
  running: Running,
  negotiated: Negotiated,
  { route, parameters }: Found,
): Promise<Response> {
  const { options, progress } = running;
  progress.uncounted = route.operators === true;
  const call = await begin(running, negotiated, route, parameters);
  if (!progress.uncounted) options.admit(call);
  const answer = await route.handle(call);
  const { body, events, status } = answer;
  const type = events === undefined ? negotiated.contentType : "text/event-stream";
  const content = events !== undefined
    ? streamEvents(running, call, events)
    : body === undefined
    ? null
    : JSON.stringify(body);
  const headers: HeadersInit = content === null ? {} : { "Content-Type": type };
  const response = new Response(content, { status, headers });
  describe(running, call, { answer, response });
  if (events === undefined && !progress.uncounted) finish(running, call, answer);
  return response;
}

function agree(options: Options, progress: Progress): Negotiated {
  const { name, disabledVersions, retiredVersions, detectVersion } = options;
  const { headers } = progress.request;
  const result = detectVersion({ headers, path: progress.url.pathname }, {
    functionName: name,
    disabled: disabledVersions,
    retired: retiredVersions,
  });
  progress.source = result.source;
  if (result.kind === "refused") throw result.problem;
  progress.negotiated = result;
  return result;
}

async function begin(
  { options, progress }: Running,
  negotiated: Negotiated,
  route: Route,
  parameters: Call["parameters"],
): Promise<Call> {
  const { request, url, requestId } = progress;
  const caller = route.operators === true
    ? NOBODY
    : readCaller(request.headers.get("authorization"));
  const checking = route.operators === true ? undefined : options.checkToken(caller.authorization);
  if (checking instanceof Promise) await checking;
  const body = await readBody(options, request, negotiated.version);
  const pending = options.flags.view();
  // Awaiting a value that is there already would still cost a turn of the event loop.
  const view = pending instanceof Promise ? await pending : pending;
  progress.view = view;
  const context: Context = {
    user_id: caller.userId,
    ...options.readContext(request, url, body),
  };
  const pair = route.pair ?? options.pairs[0].pair;
  const choice = options.routeRequest(view, pair, context);
  const call = {
    ...{ request, url, requestId, negotiated, caller, view, context, pair, choice, body },
    parameters,
  };
  progress.call = call;
  return call;
}

/** An operator's request touches no rows of users; its rights are checked where it goes. */
const NOBODY: Caller = { authorization: "", userId: "" };

async function readBody(options: Options, request: Request, wire: Version): Promise<Body> {
  if (request.method !== "POST" && request.method !== "PATCH") return { value: {}, version: wire };
  const version = bodyVersion(request.headers.get("content-type"), { wire });
  const value = await readJson(request, options.limits);
  if (!isObject(value)) {
    throw new Problem("invalid-body", { status: 400, detail: "The body is not a JSON object" });
  }
  checkBodyTag(value, version);
  return { value, version };
}

/** Answers a browser that asks for permission; it cannot say its version but in the address. */
function permit(options: Options, progress: Progress): Response {
  const response = preflightResponse();
  const { headers } = response;
  const vary = headers.get("vary") ?? "";
  const path = progress.url.pathname;
  const asked = options.detectVersion({ headers: new Headers(), path }, {
    functionName: options.name,
  });
  const version = asked.kind === "negotiated" ? asked.version : 1;
  const { requestId } = progress;
  setAnswerHeaders(headers, { version, source: asked.source, requestId }, options.deprecation);
  // The answer is the same for everybody, so the browser may keep it.
  headers.delete("Cache-Control");
  headers.set("Vary", vary);
  return response;
}

function tell(options: Options, progress: Progress, about: unknown): Response {
  const response = Response.json(about);
  setAnswerHeaders(response.headers, {
    version: progress.negotiated?.version ?? 1,
    source: progress.source,
    requestId: progress.requestId,
  }, options.deprecation);
  return response;
}
