/**
 * Headers, CORS and request bodies of the HTTP API.
 *
 * @module
 */

import {
  REQUEST_HEADERS,
  RESPONSE_HEADERS,
  type Version,
  type VersionSource,
} from "../contract.ts";
import { type Occurrence, Problem, problemBody } from "./errors.ts";
import { parseOnlyExact } from "./exact_json.ts";
import { SUPPORTED } from "../negotiation/versions.ts";

const ALLOWED = REQUEST_HEADERS.join(", ");
const EXPOSED = RESPONSE_HEADERS.join(", ");
const METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";

/** Announces the end of V1 on answers of that version. */
export interface Deprecation {
  /** Seconds since 1970 from when V1 is deprecated; may be in the future. */
  readonly deprecatedAt?: number;
  /** Seconds since 1970 when V1 stops being answered. */
  readonly sunsetAt?: number;
  /** Page that explains it. */
  readonly link?: string;
}

/** What one answer says about how it was made. */
export interface AnswerHeaders {
  readonly version: Version;
  readonly source: VersionSource;
  readonly requestId: string;
  readonly backend?: Version;
  readonly flagsVersion?: number;
  readonly reason?: string;
}

/**
 * Checks a deprecation notice.
 *
 * @throws {RangeError} if the sunset is before the deprecation (RFC 9745 forbids it)
 */
export function checkDeprecation(notice: Deprecation): Deprecation {
  const { deprecatedAt, sunsetAt } = notice;
  if (deprecatedAt !== undefined && sunsetAt !== undefined && sunsetAt < deprecatedAt) {
    throw new RangeError("Cannot announce V1's end: the sunset is before the deprecation");
  }
  return notice;
}

/** Sets the headers every answer carries, errors included. */
export function setAnswerHeaders(
  headers: Headers,
  answer: AnswerHeaders,
  deprecation: Deprecation = {},
): void {
  headers.set("X-API-Version", String(answer.version));
  headers.set("X-API-Version-Source", answer.source);
  headers.set("X-API-Supported-Versions", SUPPORTED);
  headers.set("Vary", "X-API-Version, Accept");
  // Answers depend on who asks: the backend by cohort, the rows by row-level security.
  headers.set("Cache-Control", "private, no-store");
  headers.set("Access-Control-Allow-Origin", "*");
  headers.set("Access-Control-Expose-Headers", EXPOSED);
  headers.set("X-Request-Id", answer.requestId);
  if (answer.backend !== undefined) headers.set("X-Crossfade-Backend", String(answer.backend));
  if (answer.flagsVersion !== undefined) {
    headers.set("X-Crossfade-Flags-Version", String(answer.flagsVersion));
  }
  if (answer.reason !== undefined) headers.set("X-Crossfade-Reason", answer.reason);
  if (answer.version === 1) setDeprecation(headers, deprecation);
}

function setDeprecation(headers: Headers, { deprecatedAt, sunsetAt, link }: Deprecation): void {
  if (deprecatedAt !== undefined) headers.set("Deprecation", `@${deprecatedAt}`);
  if (sunsetAt !== undefined) headers.set("Sunset", new Date(sunsetAt * 1000).toUTCString());
  if (link === undefined) return;
  headers.append("Link", `<${link}>; rel="deprecation"; type="text/html"`);
  if (sunsetAt !== undefined) headers.append("Link", `<${link}>; rel="sunset"; type="text/html"`);
}

/** Returns whether a request is a browser asking for permission. */
export function isPreflight(request: Request): boolean {
  return request.method === "OPTIONS" && request.headers.has("access-control-request-method");
}

/** Answers a preflight; kept by the browser for a day. */
export function preflightResponse(): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Allow-Methods": METHODS,
      "Access-Control-Allow-Headers": ALLOWED,
      "Access-Control-Max-Age": "86400",
      "Vary": "X-API-Version, Accept, Access-Control-Request-Headers",
    },
  });
}

/** Turns a problem into an answer; `setAnswerHeaders` adds the rest. */
export function problemResponse(problem: Problem, at: Occurrence): Response {
  return new Response(JSON.stringify(problemBody(problem, at)), {
    status: problem.status,
    headers: { "Content-Type": "application/problem+json", ...problem.headers },
  });
}

export interface BodyLimits {
  /** @defaultValue 2 MiB */
  readonly maxBytes: number;
  /** Deepest nesting of objects and lists. @defaultValue 64 */
  readonly maxDepth: number;
}

export const DEFAULT_LIMITS: BodyLimits = { maxBytes: 2 * 1024 * 1024, maxDepth: 64 };

/**
 * Reads a JSON body within limits.
 *
 * @throws {Problem} 415 an encoded body, 413 too large, 400 not UTF-8, not JSON or too deep, 422 what
 * PostgreSQL cannot hold
 */
export async function readJson(
  request: Request,
  limits: BodyLimits = DEFAULT_LIMITS,
): Promise<unknown> {
  refuseEncoding(request.headers.get("content-encoding"));
  const bytes = await readBytes(request, limits.maxBytes);
  let value: unknown;
  try {
    value = parseOnlyExact(UTF8.decode(bytes), inexact);
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    const what = cause instanceof SyntaxError ? "JSON" : "UTF-8";
    const detail = `The body is not ${what}`;
    throw new Problem("invalid-body", { status: 400, detail, cause });
  }
  checkValue(value, limits.maxDepth);
  return value;
}

// Strict: a replacement character in the place of what was sent would be stored as if it were that.
const UTF8 = new TextDecoder("utf-8", { fatal: true });

function refuseEncoding(encoding: string | null): void {
  if (encoding === null || /^\s*(identity)?\s*$/i.test(encoding)) return;
  throw new Problem("unsupported-media-type", {
    status: 415,
    detail: `Content encoding "${encoding}" is not supported; send the body as it is`,
    headers: { "Accept-Encoding": "identity" },
  });
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const length = request.headers.get("content-length");
  // A declared length is enforced by the server, so a small one needs no counting.
  if (length !== null && Number(length) <= maxBytes) {
    return new Uint8Array(await request.arrayBuffer());
  }
  if (length !== null) throw tooLarge(maxBytes);
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
}

function tooLarge(maxBytes: number): Problem {
  const detail = `The body is larger than ${maxBytes} bytes`;
  return new Problem("body-too-large", { status: 413, detail });
}

// PostgreSQL's text and jsonb refuse NUL and lone surrogates, which would fail later and less clearly.
const UNSTORABLE = /\0|\p{Surrogate}/u;

function checkValue(value: unknown, depthLeft: number): void {
  if (typeof value === "string") {
    if (UNSTORABLE.test(value)) throw unstorable();
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (depthLeft === 0) {
    throw new Problem("body-too-deep", { status: 400, detail: "The body is nested too deeply" });
  }
  if (Array.isArray(value)) {
    for (const item of value) checkValue(item, depthLeft - 1);
    return;
  }
  for (const [key, item] of Object.entries(value)) {
    if (UNSTORABLE.test(key)) throw unstorable();
    checkValue(item, depthLeft - 1);
  }
}

function unstorable(): Problem {
  const detail =
    "The body holds a NUL character or half of a surrogate pair, which cannot be stored";
  return new Problem("invalid-message", { status: 422, detail });
}

function inexact(source: string): Problem {
  const detail = `The number ${source} cannot be kept exactly; send it as text`;
  return new Problem("invalid-message", { status: 422, detail });
}
