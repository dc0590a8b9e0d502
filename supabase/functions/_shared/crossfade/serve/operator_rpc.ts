/**
 * Functions for operators, called with the rights of who asks.
 *
 * Nothing is checked here, on purpose: the caller's own key and token go to the Data API, and the
 * grants in the database decide. A check in this place could be forgotten; that one cannot.
 *
 * @module
 */

import { Problem } from "../http/errors.ts";
import { readError } from "../http/store_error.ts";

/** Calls one function of schema `crossfade` and returns its answer. */
export interface RpcCaller {
  call(name: string, parameters: Readonly<Record<string, unknown>>): Promise<unknown>;
}

/** Opens the functions of schema `crossfade` for the sender of a request. */
export type OperatorRpc = (headers: Headers) => RpcCaller;

/** Returns callers of the Data API that pass on the sender's credentials and nothing of ours. */
export function operatorRpc({ url, timeoutMs = 10_000 }: {
  readonly url: string;
  readonly timeoutMs?: number;
}): OperatorRpc {
  return (sent) => ({
    async call(name, parameters) {
      const headers = credentials(sent);
      // People go through one door, which knows what the role of each may do.
      const [door, body] = isPerson(headers)
        ? ["operate", { rpc: name, params: parameters }]
        : [name, parameters];
      const response = await fetch(`${url}/rest/v1/rpc/${door}`, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const answer: unknown = await response.json().catch(() => null);
      if (response.ok) return answer;
      throw readError(answer, response.status);
    },
  });
}

/** A key may stand in both places, also an old one that is a token; a person's token differs. */
function isPerson(headers: Headers): boolean {
  const token = /^bearer\s+(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
  return token !== undefined && token !== headers.get("apikey");
}

/** @throws {Problem} 401 without a key */
function credentials(sent: Headers): Headers {
  const authorization = sent.get("authorization");
  const key = sent.get("apikey") ?? /^bearer\s+(sb_\S+)$/i.exec(authorization ?? "")?.[1];
  if (key === undefined) {
    const detail = "Send the project's secret key, or an operator's access token, with an apikey";
    throw new Problem("unauthorized", {
      status: 401,
      detail,
      headers: { "WWW-Authenticate": "Bearer" },
    });
  }
  const headers = new Headers({
    "apikey": key,
    "Content-Type": "application/json",
    "Content-Profile": "crossfade",
  });
  if (authorization !== null) headers.set("Authorization", authorization);
  return headers;
}
