/**
 * The store and the flags database over supabase-js.
 *
 * @module
 */

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import type { Version } from "../../_shared/crossfade/contract.ts";
import type { FlagsDatabase } from "../../_shared/crossfade/flags/flags_client.ts";
import { isRow } from "../../_shared/crossfade/flags/snapshot.ts";
import {
  type Anchor,
  type ListQuery,
  type MessageStore,
  type OpenStore,
  SEQUENCE_COLUMN,
  StoreError,
  type Update,
} from "./store.ts";
import type { Caller, Message } from "../types.ts";

const TABLE = { 1: "chat_messages", 2: "chat_messages_v2" } as const;

export interface SupabaseOptions {
  readonly url: string;
  readonly publishableKey: string;
  readonly secretKey: string;
  /** Longest wait for one call of the Data API. @defaultValue 10000 */
  readonly timeoutMs?: number;
  /** Called with the flags version that an answer carries. */
  readonly onVersion?: (version: unknown) => void;
}

/** Makes a client that holds no session: one per key and isolate, tokens travel per request. */
function makeClient(url: string, key: string, schema: "public" | "crossfade"): SupabaseClient {
  const options = { accessToken: () => Promise.resolve(null), db: { schema } };
  // The library's types tie the client to its schema's name; here tables are addressed as text.
  return createClient(url, key, options) as unknown as SupabaseClient;
}

/** Opens stores that share one client; the caller's token goes onto each query. */
export function supabaseStore(options: SupabaseOptions): OpenStore {
  const open = openCaller(options);
  const service = new ServiceRpc("public", options);
  return (caller) => new SupabaseStore(open(caller), service);
}

/** Runs queries with one caller's token, bounded in time. */
export interface CallerClient {
  readonly userId: string;
  /** @throws {StoreError} */
  run(build: (client: SupabaseClient) => unknown): Promise<Message[]>;
}

/** Returns a function that gives each caller a client; they all share one. */
export function openCaller(options: SupabaseOptions): (caller: Caller) => CallerClient {
  const client = makeClient(options.url, options.publishableKey, "public");
  return (caller) => ({
    userId: caller.userId,
    run: (build) => runQuery(build(client), caller, options),
  });
}

async function runQuery(
  query: unknown,
  caller: Caller,
  { timeoutMs = 10_000, onVersion }: SupabaseOptions,
): Promise<Message[]> {
  const limit = AbortSignal.timeout(timeoutMs);
  // The builder's own type depends on the table's; only these methods are used.
  const bounded = (query as Query)
    .setHeader("Authorization", caller.authorization)
    .abortSignal(limit)
    // The library's retries wait for seconds; falling back to the other table is quicker.
    .retry(false);
  const { data, error, status } = await bounded;
  if (error === null) return Array.isArray(data) ? data.filter(isRow) : [];
  const failure = readError(error, status, limit.aborted);
  if (failure.flagsVersion !== undefined) onVersion?.(failure.flagsVersion);
  throw failure;
}

/** What is awaited: a query whose builder still takes a header and a signal. */
interface Query extends PromiseLike<QueryResult> {
  setHeader(name: string, value: string): Query;
  abortSignal(signal: AbortSignal): Query;
  retry(enabled: boolean): Query;
}

interface QueryResult {
  readonly data: unknown;
  readonly error: unknown;
  readonly status: number;
}

class SupabaseStore implements MessageStore {
  readonly #caller: CallerClient;
  readonly #service: ServiceRpc;

  constructor(caller: CallerClient, service: ServiceRpc) {
    this.#caller = caller;
    this.#service = service;
  }

  async insert(backend: Version, row: Message): Promise<Message> {
    return one(
      await this.#caller.run((client) => client.from(TABLE[backend]).insert(row).select()),
    );
  }

  async insertMany(backend: Version, rows: readonly Message[]): Promise<Message[]> {
    // One statement: all of them are stored, or none.
    const options = { defaultToNull: false };
    return await this.#caller.run((client) =>
      client.from(TABLE[backend]).insert([...rows], options).select()
    );
  }

  async get(backend: Version, id: string): Promise<Message | undefined> {
    return (await this.#caller.run((client) => client.from(TABLE[backend]).select().eq("id", id)))[
      0
    ];
  }

  async getMany(backend: Version, ids: readonly string[]): Promise<Message[]> {
    return await this.#caller.run((client) => client.from(TABLE[backend]).select().in("id", ids));
  }

  async list(backend: Version, query: ListQuery): Promise<Message[]> {
    const sequence = SEQUENCE_COLUMN[backend];
    const ascending = query.newest !== true;
    return await this.#caller.run((client) => {
      let select = client.from(TABLE[backend]).select().eq("chat_id", query.chatId);
      if (query.after !== undefined) select = select.or(later(query.after, sequence));
      return select.order("created_at", { ascending })
        .order(sequence, { ascending, nullsFirst: ascending })
        .order("id", { ascending })
        .limit(query.limit);
    });
  }

  async update(backend: Version, update: Update): Promise<Message | undefined> {
    return (await this.#caller.run((client) => {
      let query = client.from(TABLE[backend]).update(update.changes).eq("id", update.id);
      if (update.ifUpdatedAt === null) query = query.is("updated_at", null);
      else if (update.ifUpdatedAt !== undefined) query = query.eq("updated_at", update.ifUpdatedAt);
      return query.select();
    }))[0];
  }

  async remove(backend: Version, id: string): Promise<boolean> {
    const rows = await this.#caller.run((client) =>
      client.from(TABLE[backend]).delete().eq("id", id).select("id")
    );
    return rows.length > 0;
  }

  async copy(id: string): Promise<void> {
    await this.#service.call("copy_chat_message", { id });
  }

  async insertChat(row: Message): Promise<Message> {
    return one(await this.#caller.run((client) => client.from("chats").insert(row).select()));
  }

  async getChat(id: string): Promise<Message | undefined> {
    return (await this.#caller.run((client) => client.from("chats").select().eq("id", id)))[0];
  }
}

function one(rows: readonly Message[]): Message {
  const [row] = rows;
  if (row !== undefined) return row;
  throw new StoreError("The database stored nothing", { refused: true, status: 500 });
}

/** Filter for rows after an anchor in the order (created_at, sequence nulls first, id). */
function later(after: Anchor, sequence: string): string {
  const at = `created_at.eq."${after.created_at}"`;
  const id = `id.gt.${after.id}`;
  const ties = after.sequence === null
    ? [`and(${at},${sequence}.not.is.null)`, `and(${at},${sequence}.is.null,${id})`]
    : [
      `and(${at},${sequence}.gt.${after.sequence})`,
      `and(${at},${sequence}.eq.${after.sequence},${id})`,
    ];
  return [`created_at.gt."${after.created_at}"`, ...ties].join(",");
}

/** Classifies an error of postgrest-js by its codes, never by its text. */
export function readError(error: unknown, status: number, timedOut = false): StoreError {
  const row = isRow(error) ? error : {};
  const sqlstate = typeof row.code === "string" ? row.code : "";
  const detail = parseDetail(row.details);
  const code = typeof detail.code === "string" ? detail.code : sqlstate;
  const version = detail.flags_version;
  const message = typeof row.message === "string" ? row.message : "The database did not answer";
  return new StoreError(message, {
    // postgrest-js reports a failed fetch with status 0; a proxy's page has no SQLSTATE.
    refused: status >= 400 && /^([0-9A-Z]{5}|PGRST\d+)$/.test(sqlstate),
    status,
    timedOut,
    code,
    ...(typeof version === "number" ? { flagsVersion: version } : {}),
    cause: error,
  });
}

function parseDetail(details: unknown): Readonly<Record<string, unknown>> {
  if (isRow(details)) return details;
  if (typeof details !== "string" || !details.startsWith("{")) return {};
  try {
    const value: unknown = JSON.parse(details);
    return isRow(value) ? value : {};
  } catch {
    return {};
  }
}

/** Calls functions of one schema with the secret key; they are closed to users. */
class ServiceRpc {
  readonly client: SupabaseClient;

  readonly #timeoutMs: number;

  constructor(
    schema: "public" | "crossfade",
    options: Pick<SupabaseOptions, "url" | "secretKey" | "timeoutMs">,
  ) {
    this.client = makeClient(options.url, options.secretKey, schema);
    this.#timeoutMs = options.timeoutMs ?? 10_000;
  }

  /**
   * Calls one function and returns its answer.
   *
   * @param signal ends the wait; without one it ends after the time limit of all calls
   * @throws {StoreError}
   */
  async call(name: string, parameters: Message, signal?: AbortSignal): Promise<unknown> {
    const query = this.client.rpc(name, parameters) as unknown as Query;
    const limit = signal ?? AbortSignal.timeout(this.#timeoutMs);
    const { data, error, status } = await query.abortSignal(limit).retry(false);
    if (error !== null) throw readError(error, status);
    return data;
  }
}

/** Calls functions of schema `crossfade`. */
export class CrossfadeRpc extends ServiceRpc implements FlagsDatabase {
  constructor(options: Pick<SupabaseOptions, "url" | "secretKey" | "timeoutMs">) {
    super("crossfade", options);
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
}
