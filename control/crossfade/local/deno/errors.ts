/** PostgREST's answers to database errors. */
import type { RequestFacts } from "./request_context.ts";

/**
 * Answer a failed request with everything the database said, as PostgREST does.
 * `PTxyz` sets the status, `PGRST` status and headers, other codes have a fixed one.
 */
export function failureResponse(facts: RequestFacts): Response {
  const failure = facts.failure;
  if (!failure) return Response.json({ message: "Internal server error" }, { status: 500 });
  const body = {
    code: failure.code,
    details: failure.detail ?? null,
    hint: failure.hint ?? null,
    message: failure.message,
  };
  if (failure.code === "PGRST") return ownResponse(failure.message, failure.detail);
  const status = statusOf(failure.code, facts.caller.role === "anon");
  const headers = new Headers({ "content-type": "application/json; charset=utf-8" });
  if (status === 401) headers.set("www-authenticate", "Bearer");
  return new Response(JSON.stringify(body), { status, headers });
}

/** Answer a request that found no database. */
export function unreachableResponse(): Response {
  return Response.json({
    code: "PGRST001",
    details: null,
    hint: null,
    message: "Database client error. Retrying the connection.",
  }, { status: 503 });
}

function ownResponse(message: string, detail: string | undefined): Response {
  try {
    const { status, headers } = JSON.parse(detail ?? "");
    const { code, message: text, details = null, hint = null } = JSON.parse(message);
    return Response.json({ code, message: text, details, hint }, {
      status,
      headers: headers ?? {},
    });
  } catch {
    return Response.json({
      code: "PGRST121",
      message: "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
      details: null,
      hint: null,
    }, { status: 500 });
  }
}

const EXACT: Record<string, number> = {
  "22023": 400,
  "23503": 409,
  "23505": 409,
  "25006": 405,
  "42883": 404,
  "42P01": 404,
  "42P17": 500,
  "53400": 500,
  "57P01": 503,
  P0001: 400,
};

const BY_CLASS: Record<string, number> = {
  "08": 503,
  "09": 500,
  "0L": 403,
  "0P": 403,
  "25": 500,
  "28": 403,
  "2D": 500,
  "38": 500,
  "39": 500,
  "3B": 500,
  "40": 500,
  "53": 503,
  "54": 500,
  "55": 500,
  "57": 500,
  "58": 500,
  F0: 500,
  HV: 500,
  P0: 500,
  XX: 500,
};

function statusOf(code: string, anonymous: boolean): number {
  if (code === "42501") return anonymous ? 401 : 403;
  const own = /^PT(\d{3})$/.exec(code)?.[1];
  if (own !== undefined) return Number(own);
  return EXACT[code] ?? BY_CLASS[code.slice(0, 2)] ?? 400;
}
