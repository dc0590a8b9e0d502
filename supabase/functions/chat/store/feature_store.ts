/**
 * What the features of a reply keep, for one caller; every row is the caller's own.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { Caller, Message } from "../types.ts";

/** A fact that the user asked to remember. */
export interface Fact {
  readonly id: string;
  readonly fact: string;
  readonly created_at: string;
}

/** State of one conversation. */
export interface ChatState {
  readonly turn: number;
  readonly state: Message;
}

/** What replaces the oldest messages of a chat. */
export interface Summary {
  readonly text: string;
  /** Id of the newest message that it covers. */
  readonly coveredTo: string;
}

/** A message as a search finds it. */
export interface Found {
  readonly id: string;
  readonly role: string;
  readonly content: string;
  readonly created_at: string;
}

/** Every call is one round trip with the caller's token, and throws `StoreError`. */
export interface FeatureStore {
  /** Returns the newest facts, newest first. */
  facts(limit: number): Promise<Fact[]>;
  /** Keeps a fact; one that is known already is not kept twice. */
  addFact(fact: string): Promise<void>;
  /** Returns whether there was such a fact. */
  removeFact(id: string): Promise<boolean>;
  readState(chatId: string): Promise<ChatState | undefined>;
  /** Counts a reply, once however often it is told, and merges keys into the state. */
  advanceState(chatId: string, replyId: string, changes: Message): Promise<ChatState>;
  /** Returns what was kept under a key and has not expired. */
  cached(key: string): Promise<Message | undefined>;
  keepCached(key: string, completion: Message, lifetimeS: number): Promise<void>;
  summary(chatId: string): Promise<Summary | undefined>;
  keepSummary(chatId: string, summary: Summary): Promise<void>;
  /** Returns the newest messages that contain a text. */
  search(backend: Version, query: string, limit: number): Promise<Found[]>;
}

/** Opens the feature store for one caller. */
export type OpenFeatures = (caller: Caller) => FeatureStore;
