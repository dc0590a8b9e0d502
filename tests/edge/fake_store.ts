/**
 * Two tables in memory, kept equal by a mirror as the database's triggers do.
 *
 * @module
 */

import type { Converter } from "../../supabase/functions/chat/adapters/api_version_router.ts";
import { toV1, toV2 } from "../../supabase/functions/chat/adapters/message_adapter.ts";
import type { Version } from "../../supabase/functions/_shared/crossfade/contract.ts";
import {
  type ListQuery,
  type MessageStore,
  type Update,
} from "../../supabase/functions/chat/store/store.ts";
import { StoreError } from "../../supabase/functions/_shared/crossfade/http/store_error.ts";
import type { Message } from "../../supabase/functions/chat/types.ts";

type Operation = "insert" | "get" | "getMany" | "list" | "update" | "remove" | "copy";

export const converter: Converter = { toV1, toV2 };

export class FakeStore implements MessageStore {
  readonly tables = { 1: new Map<string, Message>(), 2: new Map<string, Message>() };
  readonly calls: string[] = [];
  /** Failures by `operation backend`; `after` lets the statement through before it fails. */
  readonly failures = new Map<string, { error: unknown; after?: boolean }>();
  mirrored = true;
  #sequence = 0;

  fail(operation: Operation, backend: Version, error: unknown, after = false): void {
    this.failures.set(`${operation} ${backend}`, { error, after });
  }

  insert(backend: Version, row: Message): Promise<Message> {
    return this.#do("insert", backend, () => {
      const id = String(row.id);
      if (this.tables[backend].has(id)) throw duplicate();
      this.#sequence += 1;
      const order = backend === 1
        ? { sequence_number: this.#sequence, metadata: {} }
        : { seq: this.#sequence, status: "complete", metadata: {}, schema_version: 2 };
      const at = "2026-05-01T10:00:00.123456+00:00";
      const stored = { ...order, created_at: at, updated_at: null, ...row };
      this.#write(backend, id, stored);
      return stored;
    });
  }

  insertMany(backend: Version, rows: readonly Message[]): Promise<Message[]> {
    if (rows.some((row) => this.tables[backend].has(String(row.id)))) {
      return Promise.reject(duplicate());
    }
    return Promise.all(rows.map((row) => this.insert(backend, row)));
  }

  get(backend: Version, id: string): Promise<Message | undefined> {
    return this.#do("get", backend, () => this.tables[backend].get(id));
  }

  getMany(backend: Version, ids: readonly string[]): Promise<Message[]> {
    return this.#do("getMany", backend, () => {
      return ids.map((id) => this.tables[backend].get(id)).filter((row) => row !== undefined);
    });
  }

  list(backend: Version, query: ListQuery): Promise<Message[]> {
    return this.#do("list", backend, () => {
      const rows = [...this.tables[backend].values()].filter((row) => row.chat_id === query.chatId);
      return (query.newest === true ? rows.toReversed() : rows).slice(0, query.limit);
    });
  }

  update(backend: Version, { id, changes, ifUpdatedAt }: Update): Promise<Message | undefined> {
    return this.#do("update", backend, () => {
      const row = this.tables[backend].get(id);
      if (row === undefined) return undefined;
      if (ifUpdatedAt !== undefined && row.updated_at !== ifUpdatedAt) return undefined;
      const stored = { ...row, ...changes };
      this.#write(backend, id, stored);
      return stored;
    });
  }

  remove(backend: Version, id: string): Promise<boolean> {
    return this.#do("remove", backend, () => {
      if (this.mirrored) this.tables[backend === 1 ? 2 : 1].delete(id);
      return this.tables[backend].delete(id);
    });
  }

  copy(id: string): Promise<void> {
    return this.#do("copy", 2, () => {
      const row = this.tables[1].get(id);
      if (row !== undefined && !this.tables[2].has(id)) {
        this.tables[2].set(id, converter.toV2(row));
      }
    });
  }

  insertChat(row: Message): Promise<Message> {
    return Promise.resolve({ title: null, created_at: "2026-05-01T10:00:00+00:00", ...row });
  }

  getChat(): Promise<Message | undefined> {
    return Promise.resolve(undefined);
  }

  #write(backend: Version, id: string, row: Message): void {
    this.tables[backend].set(id, row);
    if (!this.mirrored) return;
    if (backend === 1) this.tables[2].set(id, converter.toV2(row, this.tables[2].get(id)));
    else this.tables[1].set(id, converter.toV1(row));
  }

  // deno-lint-ignore require-await -- a thrown failure must become a rejection
  async #do<T>(operation: Operation, backend: Version, run: () => T): Promise<T> {
    const name = `${operation} ${backend}`;
    this.calls.push(name);
    const failure = this.failures.get(name);
    if (failure !== undefined && failure.after !== true) throw failure.error;
    const value = run();
    if (failure !== undefined) throw failure.error;
    return value;
  }
}

export function fenced(): StoreError {
  return new StoreError("V2 is fenced", {
    refused: true,
    status: 409,
    code: "CF_FENCED",
    flagsVersion: 9,
  });
}

export function archived(): StoreError {
  return new StoreError("V1 is an archive", { refused: true, status: 409, code: "CF_ARCHIVED" });
}

export function refused(code: string, status = 400): StoreError {
  return new StoreError("refused", { refused: true, status, code });
}

/** Nobody knows whether the statement was carried out. */
export function noAnswer(): StoreError {
  return new StoreError("fetch failed", { refused: false, status: 0 });
}

/** We gave up waiting; the statement may be running still. */
export function timedOut(): StoreError {
  return new StoreError("aborted", { refused: false, status: 0, timedOut: true });
}

export function duplicate(): StoreError {
  return new StoreError("duplicate key", { refused: true, status: 409, code: "23505" });
}
