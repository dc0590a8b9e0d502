/**
 * The OpenFeature Remote Evaluation Protocol over the flags of this isolate.
 *
 * Beyond the schema it keeps what the official clients rely on: every answer has a value, a variant,
 * a standard reason and flat metadata; every error has `errorDetails`.
 *
 * @module
 */

import { Problem } from "../http/errors.ts";
import type { Context } from "../flags/evaluate.ts";
import type { FlagsClient, View } from "../flags/flags_client.ts";
import { readJson } from "../http/http.ts";
import { FlagError, readContext, type Resolution, resolution, resolve } from "./openfeature.ts";
import { isRow } from "../flags/snapshot.ts";

/** Who asks: a back end that may ask for anybody, or a signed-in user who may ask for himself. */
export type Asker = { readonly kind: "trusted" } | { readonly kind: "user"; readonly id: string };

/** Finds out who asks; `undefined` when nobody is recognised. Must not throw for bad credentials. */
export type Authorize = (headers: Headers) => Promise<Asker | undefined>;

export interface OfrepOptions {
  readonly flags: FlagsClient;
  readonly authorize: Authorize;
  readonly log?: (message: string, error: unknown) => void;
}

type Body = Readonly<Record<string, unknown>>;

const PATH = /^(?:\/functions\/v1)?(?:\/ofrep){1,2}\/v1\/evaluate\/flags(?:\/([^/]+))?\/?$/;
const LIMITS = { maxBytes: 64 * 1024, maxDepth: 16 };

const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Methods": "POST, OPTIONS",
  "Access-Control-Allow-Headers":
    "authorization, apikey, content-type, if-none-match, x-api-key, x-client-info",
  "Access-Control-Expose-Headers": "ETag, Retry-After",
};

/** An answer that is no success, with the protocol's body. */
class Refusal extends Error {
  readonly status: number;
  readonly body: Body;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, body: Body, headers: Readonly<Record<string, string>> = {}) {
    super(String(body.errorDetails));
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

/** Makes the endpoint: a function from request to response that never rejects. */
export function createOfrep(options: OfrepOptions): (request: Request) => Promise<Response> {
  const log = options.log ?? ((message, error) => console.error(message, error));
  return async (request) => {
    if (request.method === "OPTIONS") {
      return new Response(null, {
        status: 204,
        headers: { ...CORS, "Access-Control-Max-Age": "86400" },
      });
    }
    try {
      return await answer(options, request);
    } catch (error) {
      if (error instanceof Refusal) return json(error.status, error.body, error.headers);
      log("Cannot evaluate flags", error);
      return json(500, { errorDetails: "The evaluation failed" });
    }
  };
}

async function answer({ flags, authorize }: OfrepOptions, request: Request): Promise<Response> {
  const match = PATH.exec(new URL(request.url).pathname);
  if (match === null) throw new Refusal(404, { errorDetails: "There is no such endpoint" });
  if (request.method !== "POST") {
    throw new Refusal(405, { errorDetails: "Evaluate flags with POST" }, {
      Allow: "POST, OPTIONS",
    });
  }
  const asker = await authorize(request.headers);
  if (asker === undefined) {
    const errorDetails = "Send a secret key or a user's access token";
    throw new Refusal(401, { errorDetails }, { "WWW-Authenticate": "Bearer" });
  }
  const name = match[1] === undefined ? undefined : decode(match[1]);
  const given = await readBody(request, name);
  const context = restrict(asker, given, name);
  const view = await flags.view();
  return name === undefined
    ? await all(flags, { view, context, known: request.headers.get("if-none-match") })
    : one(flags, { view, name, context });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A lone percent sign: no flag has that name, and the answer says so.
    return text;
  }
}

async function readBody(request: Request, key: string | undefined): Promise<Context> {
  const fail = (errorCode: string, errorDetails: string, status = 400): never => {
    throw new Refusal(status, { ...named(key), errorCode, errorDetails });
  };
  try {
    const body = await readJson(request, LIMITS);
    if (!isRow(body)) return fail("PARSE_ERROR", "The body is not a JSON object");
    return readContext(body.context);
  } catch (error) {
    if (error instanceof FlagError) return fail(error.code, error.message);
    if (!(error instanceof Problem)) throw error;
    if (error.status === 413) return fail("GENERAL", error.message, 413);
    return fail(error.status === 422 ? "INVALID_CONTEXT" : "PARSE_ERROR", error.message);
  }
}

/** A user asks for himself: his own id replaces nothing and nobody else's is accepted. */
function restrict(asker: Asker, context: Context, key: string | undefined): Context {
  if (asker.kind === "trusted") return context;
  if (context.user_id && context.user_id !== asker.id) {
    const errorDetails = "A user's token evaluates flags for that user only";
    throw new Refusal(403, { ...named(key), errorCode: "GENERAL", errorDetails });
  }
  return { ...context, user_id: asker.id };
}

function one(
  flags: FlagsClient,
  { view, name, context }: { view: View; name: string; context: Context },
): Response {
  try {
    return json(200, success(name, resolve(flags, { view, name, context })));
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    if (error.code === "PROVIDER_NOT_READY") throw notReady(error.message);
    const { code: errorCode, message: errorDetails } = error;
    throw new Refusal(404, { key: name, errorCode, errorDetails });
  }
}

/** Every flag at once, for clients whose context rarely changes. Not counted as exposures. */
async function all(
  flags: FlagsClient,
  { view, context, known }: { view: View; context: Context; known: string | null },
): Promise<Response> {
  const names = [...view.snapshot.flags.keys()].filter((name) => flags.knows(name)).toSorted();
  if (names.length === 0 && !flags.isReady) throw notReady("The flags have not been read yet");
  const body = JSON.stringify({
    flags: names.map((name) => success(name, resolution(flags, view, view.explain(name, context)))),
    metadata: { flags_version: view.snapshot.version },
  });
  // Over the answer itself, so that it changes with the context as well as with the flags.
  const etag = await tag(body);
  if (matches(known, etag)) {
    return new Response(null, { status: 304, headers: { ...CORS, ETag: etag } });
  }
  return json(200, body, { ETag: etag });
}

function success(key: string, { flagMetadata, ...rest }: Resolution): Body {
  return { key, ...rest, metadata: flagMetadata };
}

function notReady(errorDetails: string): Refusal {
  return new Refusal(503, { errorCode: "GENERAL", errorDetails }, { "Retry-After": "1" });
}

function named(key: string | undefined): Body {
  return key === undefined ? {} : { key };
}

async function tag(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  const hex = [...new Uint8Array(digest).slice(0, 16)].map((byte) =>
    byte.toString(16).padStart(2, "0")
  );
  return `"${hex.join("")}"`;
}

/** Compares as RFC 9110 wants for If-None-Match: weakly, with any of a list. */
function matches(known: string | null, etag: string): boolean {
  if (known === null) return false;
  return known.split(",").map((item) => item.trim().replace(/^W\//, ""))
    .some((item) => item === "*" || item === etag);
}

function json(status: number, body: Body | string, headers: Record<string, string> = {}): Response {
  return new Response(typeof body === "string" ? body : JSON.stringify(body), {
    status,
    headers: {
      "Content-Type": "application/json; charset=utf-8",
      // Who may see an answer depends on the token; clients revalidate by ETag themselves.
      "Cache-Control": "private, no-store",
      ...CORS,
      ...headers,
    },
  });
}
