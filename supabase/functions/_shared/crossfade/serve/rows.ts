/**
 * Rows of one caller over the Data API, with the caller's token: row-level security applies.
 *
 * @module
 */

import { parseExact } from "../http/exact_json.ts";
import type { Caller, Message } from "./call.ts";
import { readError, StoreError } from "../http/store_error.ts";

/** Values of key columns that name one row. */
export type Key = Readonly<Record<string, string>>;

export interface ListQuery {
  /** Columns and the values they must have. */
  readonly where: Key;
  /** Columns of the key, in order. */
  readonly order: readonly string[];
  /** Only rows after this key. */
  readonly after?: Key;
  readonly limit: number;
}

/** Every call is one round trip, and throws {@link StoreError}. */
export interface Rows {
  /** Stores a row and returns it as stored. */
  insert(table: string, row: Message): Promise<Message>;
  list(table: string, query: ListQuery): Promise<Message[]>;
  /** Returns those of the rows that exist, in any order. */
  getMany(table: string, keys: readonly Key[]): Promise<Message[]>;
  /** Returns the row as stored, or `undefined` if none matched. @param seen values it must still have */
  update(table: string, key: Key, change: Change): Promise<Message | undefined>;
  /** Returns whether there was such a row. */
  remove(table: string, key: Key): Promise<boolean>;
}

export interface Change {
  readonly changes: Message;
  /** Values that the row must still have. */
  readonly seen?: Message;
}

/** Opens the rows of one caller. */
export type OpenRows = (caller: Caller) => Rows;

export interface RowsOptions {
  readonly url: string;
  readonly publishableKey: string;
  /** Longest wait for one call. @defaultValue 10000 */
  readonly timeoutMs?: number;
  /** Called with the flags version that a refusal carries. */
  readonly onVersion?: (version: unknown) => void;
  readonly fetch?: typeof fetch;
}

/** Opens rows over plain HTTP: a function that uses nothing else needs no package. */
export function restRows(options: RowsOptions): OpenRows {
  return (caller) => new RestRows(options, caller);
}

class RestRows implements Rows {
  readonly #options: RowsOptions;
  readonly #caller: Caller;

  constructor(options: RowsOptions, caller: Caller) {
    this.#options = options;
    this.#caller = caller;
  }

  async insert(table: string, row: Message): Promise<Message> {
    const [stored] = await this.#send("POST", table, new URLSearchParams(), row);
    if (stored !== undefined) return stored;
    throw new StoreError("The database stored nothing", { refused: true, status: 500 });
  }

  list(table: string, { where, order, after, limit }: ListQuery): Promise<Message[]> {
    const query = matching(where);
    if (after !== undefined) query.append("or", `(${later(order, after)})`);
    query.append("order", order.map((column) => `${column}.asc`).join(","));
    query.append("limit", String(limit));
    return this.#send("GET", table, query);
  }

  getMany(table: string, keys: readonly Key[]): Promise<Message[]> {
    const some = keys.map((key) =>
      `and(${Object.entries(key).map(([name, value]) => `${name}.eq.${quoted(value)}`).join(",")})`
    );
    return this.#send("GET", table, new URLSearchParams({ or: `(${some.join(",")})` }));
  }

  async update(table: string, key: Key, { changes, seen = {} }: Change) {
    const query = matching(key);
    for (const [name, value] of Object.entries(seen)) {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      query.append(name, value === null ? "is.null" : `eq.${text}`);
    }
    return (await this.#send("PATCH", table, query, changes))[0];
  }

  async remove(table: string, key: Key): Promise<boolean> {
    return (await this.#send("DELETE", table, matching(key))).length > 0;
  }

  async #send(
    method: string,
    table: string,
    query: URLSearchParams,
    body?: Message,
  ): Promise<Message[]> {
    const { url, publishableKey, timeoutMs = 10_000, onVersion, fetch = globalThis.fetch } =
      this.#options;
    const limit = AbortSignal.timeout(timeoutMs);
    let status = 0;
    try {
      const response = await fetch(`${url}/rest/v1/${table}?${query}`, {
        method,
        headers: {
          "apikey": publishableKey,
          "Authorization": this.#caller.authorization,
          "Content-Type": "application/json",
          "Prefer": "return=representation",
        },
        signal: limit,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      status = response.status;
      const answer = text === "" ? [] : parseExact(text);
      if (response.ok && Array.isArray(answer)) return answer;
      throw readError(answer, response.ok ? 502 : status);
    } catch (error) {
      const failure = error instanceof StoreError ? error : readError(error, status, limit.aborted);
      if (failure.flagsVersion !== undefined) onVersion?.(failure.flagsVersion);
      throw failure;
    }
  }
}

function matching(key: Key): URLSearchParams {
  return new URLSearchParams(Object.entries(key).map(([name, value]) => [name, `eq.${value}`]));
}

/** A value inside a list of conditions: quotes keep commas and brackets of the value apart. */
function quoted(value: string): string {
  return `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** Condition for rows after a key of several columns. */
function later(order: readonly string[], after: Key): string {
  return order.map((column, place) => {
    const equal = order.slice(0, place).map((name) => `${name}.eq.${quoted(after[name] ?? "")}`);
    return `and(${[...equal, `${column}.gt.${quoted(after[column] ?? "")}`].join(",")})`;
  }).join(",");
}
