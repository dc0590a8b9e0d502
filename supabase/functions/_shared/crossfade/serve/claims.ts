/**
 * Who calls, from the bearer token.
 *
 * The token is decoded and not verified here, on purpose. Its `sub` decides the bucket and fills
 * `user_id` of new rows, and every read or write carries the same token to the Data API, which
 * verifies it and lets row-level security compare `user_id` with it in the same round trip. So a
 * forged token can move only its own routing and is refused before a row is read or written.
 * Verifying it a second time would cost a key lookup and save nothing but an early refusal; a function
 * that wants one where the platform gives none has jwks.ts.
 *
 * @module
 */

import { Problem } from "../http/errors.ts";
import type { Caller } from "./call.ts";

const UUID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

export function isUuid(value: unknown): value is string {
  return typeof value === "string" && UUID.test(value);
}

/**
 * Reads the caller from an Authorization header.
 *
 * @throws {Problem} 401 without a user's token: a publishable key alone is nobody
 */
export function readCaller(authorization: string | null): Caller {
  const token = /^bearer\s+([\w-]+\.[\w-]+\.[\w-]*)$/i.exec(authorization ?? "")?.[1];
  const subject = token === undefined ? undefined : subjectOf(token);
  if (authorization === null || !isUuid(subject)) {
    const detail = "Sign in and send the user's access token as a bearer token";
    const headers = { "WWW-Authenticate": "Bearer" };
    throw new Problem("unauthorized", { status: 401, detail, headers });
  }
  return { authorization, userId: subject.toLowerCase() };
}

function subjectOf(token: string): unknown {
  const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
  try {
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims !== "object" || claims === null || !("sub" in claims)) return undefined;
    return claims.sub;
  } catch {
    return undefined;
  }
}
