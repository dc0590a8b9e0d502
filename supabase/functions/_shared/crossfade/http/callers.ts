/**
 * Who calls a function of this project: holders of a secret key, and signed-in users.
 *
 * @module
 */

import type { Asker, Authorize } from "../openfeature/ofrep.ts";
import type { Clock } from "../flags/clock.ts";
import { isRow } from "../flags/snapshot.ts";

export interface CallerOptions {
  readonly url: string;
  readonly publishableKey: string;
  /** Keys whose holders are trusted with every user's flags. */
  readonly trustedKeys: readonly string[];
  readonly clock: Clock;
  readonly fetch?: typeof fetch;
  /** Time for which an accepted token is not checked again. @defaultValue 60000 */
  readonly rememberMs?: number;
  /** Longest wait for the Auth server. @defaultValue 3000 */
  readonly timeoutMs?: number;
}

const REMEMBERED = 1_000;

/**
 * Recognises trusted keys in `Authorization`, `X-API-Key` or `apikey`, and asks the Auth server about
 * other tokens, so that a revoked or forged one is refused whatever key signed it.
 */
export function recognise(given: CallerOptions): Authorize {
  const options = { fetch: globalThis.fetch, rememberMs: 60_000, timeoutMs: 3_000, ...given };
  const known = new Map<string, { readonly id: string; readonly until: number }>();
  return async (headers) => {
    const bearer = /^bearer\s+(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
    const offered = [bearer, headers.get("x-api-key"), headers.get("apikey")];
    if (offered.some((key) => key && options.trustedKeys.some((one) => same(one, key)))) {
      return { kind: "trusted" };
    }
    if (bearer === undefined || bearer.split(".").length !== 3) return undefined;
    const now = options.clock.now();
    const found = known.get(bearer);
    if (found !== undefined && found.until > now) return { kind: "user", id: found.id };
    const user = await ask(options, bearer);
    if (user === undefined) return undefined;
    if (known.size >= REMEMBERED) known.clear();
    known.set(bearer, { id: user.id, until: now + options.rememberMs });
    return user;
  };
}

async function ask(
  { url, publishableKey, fetch, timeoutMs }: CallerOptions & {
    fetch: typeof globalThis.fetch;
    timeoutMs: number;
  },
  token: string,
): Promise<(Asker & { kind: "user" }) | undefined> {
  const response = await fetch(`${url}/auth/v1/user`, {
    headers: { apikey: publishableKey, Authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(timeoutMs),
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (response.status >= 500) throw new Error(`Cannot check a token: HTTP ${response.status}`);
  if (!response.ok || !isRow(body) || typeof body.id !== "string") return undefined;
  return { kind: "user", id: body.id };
}

/** Compares in a time that does not tell how much was right. */
function same(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => new TextEncoder().encode(text));
  if (left === undefined || right === undefined || left.length !== right.length) return false;
  let difference = 0;
  for (let i = 0; i < left.length; i++) difference |= (left[i] ?? 0) ^ (right[i] ?? 0);
  return difference === 0;
}
