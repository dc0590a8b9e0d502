/**
 * Database functions over plain HTTP, with the project's secret key: they are closed to users.
 *
 * @module
 */

import { readError } from "../http/store_error.ts";
import type { FlagsDatabase } from "./flags_options.ts";

export interface RpcOptions {
  readonly url: string;
  readonly secretKey: string;
  /** @defaultValue "crossfade" */
  readonly schema?: string;
  /** Longest wait for a call that brings no signal. @defaultValue 10000 */
  readonly timeoutMs?: number;
  readonly fetch?: typeof fetch;
}

/** Calls functions through the Data API; throws `StoreError`. */
export class RpcDatabase implements FlagsDatabase {
  readonly #options: Required<RpcOptions>;

  constructor(options: RpcOptions) {
    this.#options = { fetch: globalThis.fetch, schema: "crossfade", timeoutMs: 10_000, ...options };
  }

  readFlags(knownVersion: number | null, signal: AbortSignal): Promise<unknown> {
    return this.call("read_flags", { known_version: knownVersion }, signal);
  }

  recordRequests(batch: readonly unknown[], signal: AbortSignal): Promise<unknown> {
    return this.call("record_requests", { batch }, signal);
  }

  recordExposures(batch: readonly unknown[], signal: AbortSignal): Promise<unknown> {
    return this.call("record_exposures", { batch }, signal);
  }

  /** Calls one function and returns its answer. */
  async call(name: string, parameters: unknown, signal?: AbortSignal): Promise<unknown> {
    const { url, secretKey, schema, timeoutMs, fetch } = this.#options;
    const response = await fetch(`${url}/rest/v1/rpc/${name}`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Content-Profile": schema,
        "apikey": secretKey,
        // The newer keys are no tokens and are refused as such.
        ...(secretKey.startsWith("sb_") ? {} : { "Authorization": `Bearer ${secretKey}` }),
      },
      body: JSON.stringify(parameters),
      signal: signal ?? AbortSignal.timeout(timeoutMs),
    });
    const text = await response.text();
    if (!response.ok) throw readError(parse(text), response.status);
    return text === "" ? null : JSON.parse(text);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
