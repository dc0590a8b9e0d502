/**
 * Tables in memory for functions of any pair, kept equal by a mirror as the database's triggers do.
 *
 * @module
 */

import type { Message } from "../../supabase/functions/_shared/crossfade/serve/call.ts";
import type { Converter } from "../../supabase/functions/_shared/crossfade/serve/convert.ts";
import type {
  Change,
  Key,
  ListQuery,
  Rows,
} from "../../supabase/functions/_shared/crossfade/serve/rows.ts";
import { duplicate } from "./fake_store.ts";

export class FakeRows implements Rows {
  /** Rows by table, in the order of their keys. */
  readonly tables: Record<string, Message[]> = { things: [], things_v2: [] };
  readonly calls: string[] = [];
  readonly failures = new Map<string, unknown>();
  readonly #convert: Converter;
  readonly #unique: string;

  constructor(convert: Converter, unique: string) {
    this.#convert = convert;
    this.#unique = unique;
  }

  async insert(table: string, row: Message): Promise<Message> {
    await this.#do("insert", table);
    const taken = this.#rows(table).some((other) => other[this.#unique] === row[this.#unique]);
    if (taken && row[this.#unique] !== undefined) throw duplicate();
    this.#put(table, row);
    return row;
  }

  async list(table: string, { where, after, order, limit }: ListQuery): Promise<Message[]> {
    await this.#do("list", table);
    const [first = "id"] = order;
    return this.#matching(table, where)
      .filter((row) => after === undefined || String(row[first]) > String(after[first]))
      .slice(0, limit);
  }

  async getMany(table: string, keys: readonly Key[]): Promise<Message[]> {
    await this.#do("get", table);
    return keys.flatMap((key) => this.#matching(table, key));
  }

  async update(table: string, key: Key, { changes }: Change): Promise<Message | undefined> {
    await this.#do("update", table);
    const [row] = this.#matching(table, key);
    if (row === undefined) return undefined;
    const changed = { ...row, ...changes };
    this.#put(table, changed);
    return changed;
  }

  async remove(table: string, key: Key): Promise<boolean> {
    await this.#do("remove", table);
    const [row] = this.#matching(table, key);
    for (const name of Object.keys(this.tables)) {
      this.tables[name] = this.#rows(name).filter((other) => other.id !== row?.id);
    }
    return row !== undefined;
  }

  #rows(table: string): Message[] {
    return this.tables[table] ?? [];
  }

  #matching(table: string, where: Key): Message[] {
    return this.#rows(table).filter((row) =>
      Object.entries(where).every(([name, value]) => String(row[name]) === value)
    );
  }

  #put(table: string, row: Message): void {
    const replace = (name: string, value: Message): void => {
      const others = this.#rows(name).filter((other) => other.id !== row.id);
      this.tables[name] = [...others, value].toSorted((a, b) =>
        String(a.id) < String(b.id) ? -1 : 1
      );
    };
    replace(table, row);
    const counterpart = (name: string) => this.#rows(name).find((other) => other.id === row.id);
    if (table === "things") {
      replace("things_v2", this.#convert.toV2(row, counterpart("things_v2")));
    } else {
      replace("things", this.#convert.toV1(row, counterpart("things")));
    }
  }

  #do(operation: string, table: string): Promise<void> {
    const name = `${operation} ${table}`;
    this.calls.push(name);
    const failure = this.failures.get(name);
    return failure === undefined ? Promise.resolve() : Promise.reject(failure);
  }
}
