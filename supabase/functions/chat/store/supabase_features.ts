/**
 * The feature store over supabase-js.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type {
  ChatState,
  Fact,
  FeatureStore,
  Found,
  OpenFeatures,
  Summary,
} from "./feature_store.ts";
import { type CallerClient, openCaller, type SupabaseOptions } from "./supabase_store.ts";
import type { Message } from "../types.ts";

/** Opens feature stores that share one client; the caller's token goes onto each query. */
export function supabaseFeatures(options: SupabaseOptions): OpenFeatures {
  const open = openCaller(options);
  return (caller) => new SupabaseFeatures(open(caller));
}

class SupabaseFeatures implements FeatureStore {
  readonly #caller: CallerClient;

  constructor(caller: CallerClient) {
    this.#caller = caller;
  }

  async facts(limit: number): Promise<Fact[]> {
    const rows = await this.#caller.run((client) =>
      client.from("chat_memories").select("id,fact,created_at")
        .order("created_at", { ascending: false }).order("id").limit(limit)
    );
    return rows.map((row) => ({
      id: String(row.id),
      fact: String(row.fact),
      created_at: String(row.created_at),
    }));
  }

  async addFact(fact: string): Promise<void> {
    await this.#caller.run((client) =>
      client.from("chat_memories").upsert({ fact, user_id: this.#caller.userId }, {
        onConflict: "user_id,fact",
        ignoreDuplicates: true,
      })
    );
  }

  async removeFact(id: string): Promise<boolean> {
    const rows = await this.#caller.run((client) =>
      client.from("chat_memories").delete().eq("id", id).select("id")
    );
    return rows.length > 0;
  }

  async readState(chatId: string): Promise<ChatState | undefined> {
    const [row] = await this.#caller.run((client) =>
      client.from("chat_states").select().eq("chat_id", chatId)
    );
    return row === undefined ? undefined : readState(row);
  }

  async advanceState(chatId: string, replyId: string, changes: Message): Promise<ChatState> {
    const [row] = await this.#caller.run((client) =>
      client.rpc("advance_chat_state", { chat_id: chatId, reply_id: replyId, changes })
    );
    return readState(row ?? {});
  }

  async cached(key: string): Promise<Message | undefined> {
    const [row] = await this.#caller.run((client) =>
      client.from("chat_reply_cache").select("completion").eq("key", key)
        .gt("expires_at", new Date().toISOString())
    );
    return row?.completion as Message | undefined;
  }

  async keepCached(key: string, completion: Message, lifetimeS: number): Promise<void> {
    const now = Date.now();
    const expires_at = new Date(now + lifetimeS * 1000).toISOString();
    await this.#caller.run((client) =>
      client.from("chat_reply_cache").delete().lt("expires_at", new Date(now).toISOString())
    );
    await this.#caller.run((client) =>
      client.from("chat_reply_cache").upsert(
        { user_id: this.#caller.userId, key, completion, expires_at },
        { onConflict: "user_id,key" },
      )
    );
  }

  async summary(chatId: string): Promise<Summary | undefined> {
    const [row] = await this.#caller.run((client) =>
      client.from("chat_summaries").select().eq("chat_id", chatId)
    );
    if (row === undefined) return undefined;
    return { text: String(row.summary), coveredTo: String(row.covered_to) };
  }

  async keepSummary(chatId: string, { text, coveredTo }: Summary): Promise<void> {
    const updated_at = new Date().toISOString();
    await this.#caller.run((client) =>
      client.from("chat_summaries").upsert({
        chat_id: chatId,
        user_id: this.#caller.userId,
        summary: text,
        covered_to: coveredTo,
        updated_at,
      }, { onConflict: "chat_id" })
    );
  }

  async search(backend: Version, query: string, limit: number): Promise<Found[]> {
    const rows = await this.#caller.run((client) =>
      client.rpc("search_chat_messages", { query, backend, max_rows: limit })
    );
    return rows.map((row) => ({
      id: String(row.id),
      role: String(row.role),
      content: String(row.content),
      created_at: String(row.created_at),
    }));
  }
}

function readState(row: Message): ChatState {
  const { turn, state } = row;
  return {
    turn: typeof turn === "number" ? turn : 0,
    state: typeof state === "object" && state !== null ? state as Message : {},
  };
}
