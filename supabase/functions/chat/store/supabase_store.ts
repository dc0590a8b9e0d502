/**
 * The store over supabase-js.
 *
 * @module
 */

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import type { Version } from "../../_shared/crossfade/contract.ts";
import { RpcDatabase } from "../../_shared/crossfade/flags/rpc_database.ts";
import { readError, StoreError } from "../../_shared/crossfade/http/store_error.ts";
import { isRow } from "../../_shared/crossfade/flags/snapshot.ts";
import {
  type Anchor,
  type ListQuery,
  type MessageStore,
  type OpenStore,
  SEQUENCE_COLUMN,
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

/** Opens stores that share one client; the caller's token goes onto each query. */
export function supabaseStore(options: SupabaseOptions): OpenStore {
  const open = openCaller(options);
  const service = new RpcDatabase({ ...options, schema: "public" });
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
  // It holds no session: one client per isolate, tokens travel per request.
  const accessToken = (): Promise<null> => Promise.resolve(null);
  const client = createClient(options.url, options.publishableKey, { accessToken });
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
  readonly #service: RpcDatabase;

  constructor(caller: CallerClient, service: RpcDatabase) {
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
