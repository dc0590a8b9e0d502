/**
 * What features keep, in memory.
 *
 * @module
 */

import type { Version } from "../../supabase/functions/_shared/crossfade/contract.ts";
import type {
  ChatState,
  Fact,
  FeatureStore,
  Found,
  Summary,
} from "../../supabase/functions/chat/store/feature_store.ts";
import type { Message } from "../../supabase/functions/chat/types.ts";

export class FakeFeatures implements FeatureStore {
  readonly known: Fact[] = [];
  readonly states = new Map<string, ChatState & { readonly reply: string }>();
  readonly answers = new Map<string, Message>();
  readonly summaries = new Map<string, Summary>();
  readonly calls: string[] = [];
  /** Thrown instead of any answer, as when the tables are not there. */
  failure: Error | undefined;

  facts(limit: number): Promise<Fact[]> {
    return this.#do("facts", () => this.known.toReversed().slice(0, limit));
  }

  addFact(fact: string): Promise<void> {
    return this.#do("addFact", () => {
      if (this.known.some((row) => row.fact === fact)) return;
      this.known.push({ id: crypto.randomUUID(), fact, created_at: "2026-05-01T10:00:00+00:00" });
    });
  }

  removeFact(id: string): Promise<boolean> {
    return this.#do("removeFact", () => {
      const place = this.known.findIndex((row) => row.id === id);
      if (place >= 0) this.known.splice(place, 1);
      return place >= 0;
    });
  }

  readState(chatId: string): Promise<ChatState | undefined> {
    return this.#do("readState", () => this.states.get(chatId));
  }

  advanceState(chatId: string, reply: string, changes: Message): Promise<ChatState> {
    return this.#do("advanceState", () => {
      const old = this.states.get(chatId);
      const turn = old?.reply === reply ? old.turn : (old?.turn ?? 0) + 1;
      const state = { turn, state: { ...old?.state, ...changes }, reply };
      this.states.set(chatId, state);
      return state;
    });
  }

  cached(key: string): Promise<Message | undefined> {
    return this.#do("cached", () => this.answers.get(key));
  }

  keepCached(key: string, completion: Message): Promise<void> {
    return this.#do("keepCached", () => void this.answers.set(key, completion));
  }

  summary(chatId: string): Promise<Summary | undefined> {
    return this.#do("summary", () => this.summaries.get(chatId));
  }

  keepSummary(chatId: string, summary: Summary): Promise<void> {
    return this.#do("keepSummary", () => void this.summaries.set(chatId, summary));
  }

  search(_backend: Version, query: string): Promise<Found[]> {
    const created_at = "2026-05-01T10:00:00+00:00";
    const found = { id: crypto.randomUUID(), role: "user", content: `about ${query}`, created_at };
    return this.#do("search", () => [found]);
  }

  // deno-lint-ignore require-await -- a thrown failure must become a rejection
  async #do<T>(name: string, run: () => T): Promise<T> {
    this.calls.push(name);
    if (this.failure !== undefined) throw this.failure;
    return run();
  }
}
