/**
 * Seeded random messages of both versions, with a taste for what breaks converters.
 *
 * @module
 */

type Json = unknown;
type Row = Record<string, Json>;

const TEXTS = [
  "",
  " ",
  "\n\n",
  "a",
  "b",
  "a\n\nb",
  "a\n\nb\n\na",
  "\n\na",
  "a\n\n",
  "😀 e\u0301 שלום",
  '\u0001"\\',
  "[]",
];
const ARGUMENTS = [
  "",
  "{}",
  '{"city":"Oslo"}',
  '{ "b":1 }',
  '{"zz":1,"b":[true,null]}',
  '{"a":1,"a":2}',
  '{"a":1.50}',
  '{"a":9007199254740993}',
  '{"a":"\\u0000"}',
  '{"a":"\\ud83d"}',
  '{"a":1e400}',
  '{"a":',
  "[1]",
  '{"a":'.repeat(600) + "1" + "}".repeat(600),
];
const KEYS = [
  "model",
  "tokens",
  "finish_reason",
  "function_call",
  "tool_calls",
  "tool_call_id",
  "name",
  "attachments",
  "images",
  "reasoning",
  "parent_id",
  "rating",
  "error",
  "edited",
  "legacy",
  "_crossfade",
  "__proto__",
  "constructor",
  "",
];
const TYPES = [
  "text",
  "text",
  "reasoning",
  "tool_call",
  "tool_result",
  "image",
  "file",
  "audio",
  "refusal",
  "data",
  "new",
];
const V1_ROLES = ["user", "assistant", "system"];

/** Draws messages; the same seed gives the same ones. */
export class Rows {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Mulberry32: a number from 0 to 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  often(share = 0.5): boolean {
    return this.next() < share;
  }

  pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.next() * values.length)] as T;
  }

  list<T>(most: number, make: () => T): T[] {
    return Array.from({ length: Math.floor(this.next() * (most + 1)) }, make);
  }

  object(entries: readonly (readonly [string, Json])[]): Row {
    return Object.fromEntries(entries);
  }

  /** Returns any JSON value. */
  value(depth = 0): Json {
    if (depth > 2 || this.often(0.6)) {
      return this.pick([
        null,
        true,
        false,
        0,
        1,
        -7.5,
        1e15,
        1e-7,
        "",
        "x",
        [],
        {},
        this.pick(TEXTS),
      ]);
    }
    if (this.often()) return this.list(3, () => this.value(depth + 1));
    return this.object(this.list(3, () => [this.pick(KEYS), this.value(depth + 1)] as const));
  }

  call(): Row {
    return { name: this.pick(["f", "g"]), arguments: this.pick(ARGUMENTS) };
  }

  count(): Json {
    return this.often(0.15) ? this.pick([1.5, -1, "7", null]) : Math.floor(this.next() * 1e6);
  }

  /** Returns a value for a V1 metadata key, mostly in the shape that converts. */
  known(key: string): Json {
    if (this.often(0.2)) return this.value();
    switch (key) {
      case "tokens":
        return this.object(
          this.list(3, () => [this.pick(["prompt", "completion", "total"]), this.count()] as const),
        );
      case "function_call":
        return this.call();
      case "tool_calls":
        return this.list(3, () => ({
          id: this.pick(["c1", "c2", "c3"]),
          type: "function",
          function: this.call(),
          ...this.often(0.1) ? { index: 0 } : {},
        }));
      case "attachments":
        return this.list(3, () => ({
          url: this.pick(["u1", "u2"]),
          ...this.often() ? { content_type: this.pick(["image/png", "audio/x", ""]) } : {},
          ...this.often() ? { name: "n", size: this.count() } : {},
        }));
      case "images":
        return this.list(3, () => this.pick(["u1", "u2"]));
      case "parent_id":
        return this.pick([this.id(), "X"]);
      case "edited":
        return this.often();
      default:
        return this.pick(TEXTS);
    }
  }

  metadata(): Row {
    return this.object(
      this.list(5, () => this.pick(KEYS)).map((key) => [key, this.known(key)] as const),
    );
  }

  id(): string {
    const digits = () => Math.floor(this.next() * 0x10000).toString(16).padStart(4, "0");
    return `00000000-0000-4000-8000-00000000${digits()}`;
  }

  shared(): Row {
    return {
      id: this.id(),
      chat_id: "c",
      user_id: this.pick([null, "u"]),
      created_at: "2026-05-01T10:00:00.123456+00:00",
      updated_at: this.pick([null, "2026-05-02T10:00:00.000001+00:00"]),
    };
  }

  v1(): Row {
    const sequence_number = this.pick([null, 0, -1, 2 ** 31 - 1]);
    const role = this.pick(V1_ROLES);
    return {
      ...this.shared(),
      role,
      content: this.pick(TEXTS),
      metadata: this.metadata(),
      sequence_number,
    };
  }

  block(): Json {
    if (this.often(0.03)) return this.value();
    const optional = this.object(
      ([
        ["id", "b1"],
        ["extras", this.pick([{ v1: "function_call" }, { v1: "images" }, { step: 1 }, null])],
        ["text", this.pick([...TEXTS, null])],
        ["signature", "EqQB/+=="],
        ["annotations", [{ type: "citation", start: 0 }]],
        ["tool_call_id", this.pick(["c1", "c2", 7])],
        ["name", this.pick(["f", null])],
        ["input", this.value()],
        ["arguments_raw", this.pick(ARGUMENTS)],
        ["output", this.pick([this.value(), this.pick(TEXTS)])],
        [
          "source",
          this.pick([{ kind: "url", url: "u1" }, { kind: "url", url: "u2" }, {
            kind: "base64",
            data: "AA",
          }, null]),
        ],
        ["media_type", "image/png"],
        ["filename", "f"],
        ["size", this.count()],
      ] as const).filter(() => this.often(0.65)),
    );
    return { ...optional, type: this.often(0.03) ? this.value() : this.pick(TYPES) };
  }

  v2(): Row {
    const maybe = (value: Json): Json => this.often() ? value : null;
    const legacy = this.often() ? { legacy: this.often(0.9) ? this.metadata() : this.value() } : {};
    return {
      ...this.shared(),
      seq: this.pick([null, 0, 42, 2 ** 31, 2 ** 52]),
      parent_id: maybe(this.id()),
      role: this.pick([...V1_ROLES, "tool", "tool", "developer"]),
      status: this.pick(["complete", "error", "streaming"]),
      content: this.list(6, () => this.block()),
      metadata: { ...this.often() ? this.metadata() : {}, ...legacy },
      model: maybe(this.pick(["m", ""])),
      usage: maybe(
        this.pick([{ input_tokens: this.count(), cached: 1 }, { total_tokens: this.count() }, {}]),
      ),
      finish_reason: maybe("stop"),
      error: maybe(this.pick([{ code: "x", message: this.pick(["boom", 5]) }, { code: "x" }])),
      schema_version: 2,
      edited_at: maybe("2026-05-03T00:00:00+00:00"),
      deleted_at: maybe("2026-05-03T00:00:00+00:00"),
    };
  }

  /** Returns what a V1 client makes of a message it read. */
  edit(shown: Row): Row {
    const kept = Object.entries(shown.metadata as Row).filter(() => this.often(0.8));
    const set = this.often() ? Object.entries(this.metadata()) : [];
    const text = String(shown.content);
    const content = this.pick([
      text,
      text,
      this.pick(TEXTS),
      text.replace("a", "A"),
      text.replace("\n\n", "\n\nnew\n\n"),
    ]);
    const role = this.often(0.2) ? this.pick(V1_ROLES) : shown.role;
    return { ...shown, content, role, metadata: this.object([...kept, ...set]) };
  }
}
