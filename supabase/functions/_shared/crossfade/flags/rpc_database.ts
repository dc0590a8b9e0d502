/**
 * Functions of schema `crossfade` over plain HTTP: for edge functions that need no other client.
 *
 * @module
 */

import type { FlagsDatabase } from "./flags_client.ts";

export interface RpcOptions {
  readonly url: string;
  readonly secretKey: string;
  readonly fetch?: typeof fetch;
}

/** Calls the Data API with the project's secret key. */
export class RpcDatabase implements FlagsDatabase {
  readonly #options: Required<RpcOptions>;

  constructor(options: RpcOptions) {
    this.#options = { fetch: globalThis.fetch, ...options };
  }

  readFlags(knownVersion: number | null, signal: AbortSignal): Promise<unknown> {
    return this.#call("read_flags", { known_version: knownVersion }, signal);
  }

  recordRequests(batch: readonly unknown[], signal: AbortSignal): Promise<unknown> {
    return this.#call("record_requests", { batch }, signal);
  }

  recordExposures(batch: readonly unknown[], signal: AbortSignal): Promise<unknown> {
    return this.#call("record_exposures", { batch }, signal);
  }

  async #call(name: string, parameters: unknown, signal: AbortSignal): Promise<unknown> {
    const { url, secretKey } = this.#options;
    const response = await this.#options.fetch(`${url}/rest/v1/rpc/${name}`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Content-Profile": "crossfade",
        "apikey": secretKey,
        // The newer keys are no tokens and are refused as such.
        ...(secretKey.startsWith("sb_") ? {} : { "Authorization": `Bearer ${secretKey}` }),
      },
      body: JSON.stringify(parameters),
      signal,
    });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`Cannot call ${name}: HTTP ${response.status} ${text.slice(0, 200)}`);
    }
    return JSON.parse(text);
  }
}
