/** Laws of the message adapter that need their own input; the generated ones are beside. */

import assert from "node:assert/strict";
import {
  convertMessages,
  mergeMessageHistories,
  toV1,
  toV2,
} from "../../supabase/functions/chat/adapters/message_adapter.ts";
import type { Change } from "../../supabase/functions/chat/adapters/changes/change.ts";
import { convertThrough } from "../../supabase/functions/chat/adapters/changes/path.ts";
import { CHANGES } from "../../supabase/functions/chat/adapters/changes/registry.ts";
import { Rows } from "./message_rows.ts";

type Row = Record<string, unknown>;

/** Every block of the specification, with all of its keys, and some that it does not know. */
const EVERY_BLOCK: readonly Row[] = [
  {
    type: "reasoning",
    id: "r1",
    text: "need weather",
    summary: ["s"],
    signature: "EqQB/+==\u2028 \\u0041",
    encrypted: "gAAA//8=",
    redacted: false,
    provider: "p",
    extras: { x: null },
  },
  {
    type: "text",
    id: "t1",
    text: "Let me check.",
    annotations: [{ type: "citation", url: "https://x", start: 0, end: 3, cited_text: "Let" }],
  },
  {
    type: "tool_call",
    tool_call_id: "call_1",
    name: "get_weather",
    input: { city: "Oslo" },
    arguments_raw: '{ "city": "Oslo" }',
    state: "error",
    executor: "server",
    error: "timeout",
    extras: { step: 2 },
  },
  {
    type: "image",
    source: { kind: "storage", bucket: "b", path: "p" },
    media_type: "image/png",
    alt: "a cat",
    width: 10,
    height: 20,
  },
  { type: "image", source: { kind: "url", url: "https://x/1" }, media_type: "image/png" },
  {
    type: "audio",
    source: { kind: "base64", data: "AA==" },
    media_type: "audio/mpeg",
    transcript: "hello",
  },
  {
    type: "file",
    source: { kind: "file_id", file_id: "f" },
    media_type: "application/pdf",
    filename: "a.pdf",
    size: 10,
  },
  { type: "source", url: "https://x", title: "X", media_type: "text/html" },
  { type: "refusal", text: "I cannot do that." },
  { type: "data", name: "chart", data: { points: [1, 2] } },
  { type: "unknown", raw: { type: "brand-new", nested: [{ a: null }] } },
  { type: "brand-new", "": 0, ["__proto__"]: { never: "lost" } },
];

const FULL: Row = {
  id: "00000000-0000-4000-8000-00000000000a",
  chat_id: "00000000-0000-4000-8000-00000000000c",
  user_id: null,
  seq: 42,
  parent_id: "00000000-0000-4000-8000-00000000000f",
  role: "assistant",
  status: "incomplete",
  content: EVERY_BLOCK,
  metadata: { agent: "weather", legacy: { sidebar: true } },
  model: "m-1",
  usage: { input_tokens: 210, output_tokens: 31, reasoning_tokens: 7, total_tokens: 248 },
  finish_reason: "tool_calls",
  error: { code: "429", message: "rate limited", retryable: true },
  schema_version: 2,
  created_at: "2026-05-01T10:00:00.123456+00:00",
  updated_at: "2026-05-01T10:00:01.000001+00:00",
  edited_at: "2026-05-02T00:00:00.5+00:00",
  deleted_at: null,
};

/** What a V1 client makes of a stored message when it changes only its text. */
function edited(stored: Row, content: string): Row {
  return toV2({ ...toV1(stored), content }, stored);
}

Deno.test("L6 every block, known key and unknown key survives an edit by a V1 client", () => {
  const text = JSON.stringify(EVERY_BLOCK);
  const put = edited(FULL, "Let me look.\n\nI cannot do that.");
  const expected = text.replace("Let me check.", "Let me look.")
    // Offsets of the old text would point nowhere.
    .replace(/,"annotations":\[.*?\]/, "");
  assert.equal(JSON.stringify(put.content), expected);
  assert.deepEqual({ ...put, content: 0 }, { ...FULL, content: 0 });
});

Deno.test("L7 a text of a megabyte is converted and found again", () => {
  const content = "a 😀\n\n".repeat(200_000);
  assert.equal(toV1(toV2({ role: "user", content })).content, content);
});

function nested(depth: number): unknown {
  let value: unknown = "deep";
  for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

/** The hosted generation of V8 writes JSON by recursion: there nothing deeper can even be written. */
function isWritable(depth: number): boolean {
  try {
    return JSON.stringify(nested(depth)) !== "";
  } catch {
    return false;
  }
}

const DEPTHS = isWritable(100_000) ? [64, 1_000, 10_000, 100_000] : [64, 1_000];

for (const depth of DEPTHS) {
  Deno.test(`L7 a value ${depth} deep is converted, compared and looked at`, () => {
    const message = { role: "user", content: "a", metadata: { deep: nested(depth) } };
    const stored = toV2(message);
    const text = JSON.stringify(message);
    assert.equal(JSON.stringify(toV1(stored)), text);
    assert.equal(JSON.stringify(toV2(message, stored)), JSON.stringify(stored));
    const output = nested(depth);
    const result = { type: "tool_result", tool_call_id: "a", output, is_error: false };
    const shown = toV1({ role: "tool", content: [result] });
    assert.equal(shown.content, JSON.stringify(output));
  });
}

Deno.test("L9 the same message gives the same bytes, whoever converts it and when", () => {
  const texts = Array.from({ length: 3 }, () => JSON.stringify([toV1(FULL), edited(FULL, "x")]));
  assert.equal(new Set(texts).size, 1);
});

Deno.test("L11 V1 does not grow with what it cannot show", () => {
  const data = "A".repeat(1_000_000);
  const hidden = [
    { type: "image", source: { kind: "base64", data } },
    { type: "reasoning", encrypted: data },
    { type: "unknown", raw: data },
    { type: "data", name: "d", data },
  ];
  const shown = toV1({ ...FULL, content: [...EVERY_BLOCK, ...hidden] });
  assert.equal(JSON.stringify(shown), JSON.stringify(toV1(FULL)));
});

Deno.test("L12 merging keeps the order under equal times, whichever way it is told", () => {
  const at = "2026-05-01T10:00:00.123456+00:00";
  const stored = Array.from({ length: 50 }, (_, seq) =>
    toV2({
      id: `m${seq}`,
      role: "user",
      content: `${seq % 7}`,
      created_at: at,
      sequence_number: seq,
    }));
  const shown = stored.map((message) => toV1(message));
  const wanted = stored.map(({ id }) => id);
  for (let seed = 0; seed < 20; seed++) {
    const rows = new Rows(seed);
    const mixed = stored.map((message, place) => rows.often() ? message : shown[place] as Row);
    const first = mixed.filter(() => rows.often(0.7));
    const second = mixed.filter((message) => !first.includes(message) || rows.often());
    const shuffled = first.toSorted(() => rows.next() - 0.5);
    const merged = mergeMessageHistories(shuffled, second);
    assert.deepEqual(merged.map(({ id }) => id), wanted);
    // Equal text is not the same message, and merging again adds nothing.
    assert.deepEqual(mergeMessageHistories(merged, mixed).map(({ id }) => id), wanted);
  }
});

Deno.test("L12 messages without number and id keep the order they came in", () => {
  const texts = ["b", "a", "b", "c"];
  const history = texts.map((content) => ({ role: "user", content }));
  const merged = mergeMessageHistories(history.slice(0, 2), history.slice(2), { to: 1 });
  assert.deepEqual(merged.map(({ content }) => content), texts);
});

Deno.test("a mixed batch is converted in place and in order", () => {
  const stored = [FULL, toV2({ role: "user", content: "a" }), { ...FULL, role: "tool" }];
  const mixed = [toV1(FULL), stored[1], stored[2]];
  assert.deepEqual(convertMessages(mixed, 1), stored.map((message) => toV1(message)));
  // Only copied: a detour through V1 would lose what V1 cannot hold.
  assert.deepEqual(convertMessages(stored, 2), stored);
});

// A third version, as its one new file would be.

const tags: Change = {
  id: "0002_tags",
  description: "Tags leave metadata.",
  version: 3,
  up(message, base) {
    const { tags: shown, ...metadata } = (message.metadata ?? {}) as Row;
    const { private_tags } = base ?? { private_tags: [] };
    return { ...message, metadata, tags: shown ?? [], private_tags, schema_version: 3 };
  },
  down({ tags: shown, private_tags: _, ...message }) {
    const hasTags = Array.isArray(shown) && shown.length > 0;
    const metadata = { ...message.metadata as Row, ...hasTags ? { tags: shown } : {} };
    return { ...message, metadata, schema_version: 2 };
  },
};
const THREE = [...CHANGES, tags];

function through(message: Row, from: number, to: number, base?: Row): Row {
  return convertThrough(THREE, message, { from, to, base });
}

Deno.test("a third version is one more change, reached from each older one", () => {
  const stored = { ...FULL, tags: ["a"], private_tags: ["secret"], schema_version: 3 };
  assert.deepEqual(through(through(stored, 3, 2), 2, 3, stored), stored);
  const shown = through(stored, 3, 1);
  assert.deepEqual((shown.metadata as Row).tags, ["a"]);
  assert.equal(shown.content, toV1(FULL).content);
  assert.deepEqual(through(shown, 1, 3, stored), stored);
  const put = through({ ...shown, content: "new\n\nI cannot do that." }, 1, 3, stored);
  assert.deepEqual([put.tags, put.private_tags], [["a"], ["secret"]]);
  assert.equal((put.content as Row[])[1]?.text, "new");
  const fresh = through({ role: "user", content: "a", metadata: { tags: ["b"] } }, 1, 3);
  // Metadata that V2 does not know goes through it without a loss.
  assert.deepEqual(through(fresh, 3, 1).metadata, { tags: ["b"] });
});
