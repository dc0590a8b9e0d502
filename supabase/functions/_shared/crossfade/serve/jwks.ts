/**
 * Tokens verified by the function itself, for where the platform does not (`verify_jwt = false`).
 *
 * A module of its own, so that a function that does not need it does not load the library.
 *
 * @module
 */

import {
  createRemoteJWKSet,
  customFetch,
  type FetchImplementation,
  jwtVerify,
} from "npm:jose@6.2.18";
import { Problem } from "../http/errors.ts";

export interface JwksOptions {
  /** Address of the project; its Auth server publishes the keys. */
  readonly url: string;
  /** Longest wait for the keys. @defaultValue 3000 */
  readonly timeoutMs?: number;
}

/** Verifies an Authorization header with a user's token. @throws {Problem} 401, or 503 without keys */
export type CheckToken = (authorization: string) => Promise<void>;

/** What Supabase Auth signs with; never a secret that both sides share, and never none. */
const ALGORITHMS = ["ES256", "RS256", "EdDSA"];

/**
 * Checks signature, expiry and audience by the project's public keys.
 *
 * The keys are read once and kept; one that is not among them is looked for anew, at most twice a
 * minute. Tokens of the older shared secret are refused: leave `verify_jwt` on for those.
 */
export function checkByJwks({ url, timeoutMs = 3_000 }: JwksOptions): CheckToken {
  const keys = createRemoteJWKSet(new URL(`${url}/auth/v1/.well-known/jwks.json`), {
    timeoutDuration: timeoutMs,
    [customFetch]: fetchKeys,
  });
  const rules = { algorithms: ALGORITHMS, audience: "authenticated", requiredClaims: ["exp"] };
  return async (authorization) => {
    try {
      await jwtVerify(authorization.replace(/^bearer\s+/i, ""), keys, rules);
    } catch (cause) {
      throw isOfToken(cause) ? refused(cause) : unavailable(cause);
    }
  };
}

/** An answer that is none is not read by the library: its body must not stay open. */
const fetchKeys: FetchImplementation = async (url, options) => {
  const response = await fetch(url, options);
  if (response.status !== 200) await response.body?.cancel();
  return response;
};

/** Whether the token is at fault; otherwise the keys could not be had, and nobody knows. */
function isOfToken(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^ERR_(JWT|JWS|JOSE_ALG|JWKS_NO_MATCHING|JWKS_MULTIPLE)/.test(code);
}

function refused(cause: unknown): Problem {
  const detail = "The access token is not valid: sign in again";
  const headers = { "WWW-Authenticate": 'Bearer error="invalid_token"' };
  return new Problem("unauthorized", { status: 401, detail, headers, cause });
}

function unavailable(cause: unknown): Problem {
  const detail = "Access tokens cannot be checked now; try again";
  const headers = { "Retry-After": "1" };
  return new Problem("upstream-unavailable", { status: 503, detail, headers, cause });
}
