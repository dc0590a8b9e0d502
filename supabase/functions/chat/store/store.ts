/**
 * Chats and messages as they are stored, one table per backend version.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { Caller, Message } from "../types.ts";

/** Where a page of messages begins: after this message. */
export interface Anchor {
  readonly id: string;
  readonly created_at: string;
  readonly sequence: number | null;
}

export interface ListQuery {
  readonly chatId: string;
  readonly limit: number;
  readonly after?: Anchor;
  /** Newest first instead of oldest first. */
  readonly newest?: boolean;
}

/** An update that must not overwrite somebody else's. */
export interface Update {
  readonly id: string;
  readonly changes: Message;
  /** Only if the row was still changed last at this time; absent to update in any case. */
  readonly ifUpdatedAt?: string | null;
}

/**
 * Rows of one caller. Every call but `copy` is one round trip with the caller's token, so row-level
 * security applies, and throws {@link StoreError}.
 */
export interface MessageStore {
  /** Stores a row and returns it as stored. */
  insert(backend: Version, row: Message): Promise<Message>;
  /** Stores several rows of one shape in one statement and returns them in any order. */
  insertMany(backend: Version, rows: readonly Message[]): Promise<Message[]>;
  get(backend: Version, id: string): Promise<Message | undefined>;
  /** Returns those of the rows that exist, in any order. */
  getMany(backend: Version, ids: readonly string[]): Promise<Message[]>;
  list(backend: Version, query: ListQuery): Promise<Message[]>;
  /** Returns the row as stored, or `undefined` if none matched. */
  update(backend: Version, update: Update): Promise<Message | undefined>;
  /** Returns whether there was such a row. */
  remove(backend: Version, id: string): Promise<boolean>;
  /**
   * Makes the V2 row of a message that only V1 has, of whomever it is; a message that is gone
   * meanwhile, or has its V2 row, is left alone.
   */
  copy(id: string): Promise<void>;
  insertChat(row: Message): Promise<Message>;
  getChat(id: string): Promise<Message | undefined>;
}

/** Opens the store for one caller. */
export type OpenStore = (caller: Caller) => MessageStore;

/** Name of the column that orders messages of equal time. */
export const SEQUENCE_COLUMN = { 1: "sequence_number", 2: "seq" } as const;

/** Returns the anchor of a stored row. */
export function anchorOf(row: Message, backend: Version): Anchor {
  const sequence = row[SEQUENCE_COLUMN[backend]];
  return {
    id: String(row.id),
    created_at: String(row.created_at),
    sequence: typeof sequence === "number" ? sequence : null,
  };
}
