import assert from "node:assert/strict";
import { same } from "./same.ts";
import {
  convertMessages,
  detectVersion,
  isV1Message,
  isV2Message,
  mergeMessageHistories,
  MessageError,
  toV1,
  toV2,
  withoutResidue,
} from "../../supabase/functions/chat/adapters/message_adapter.ts";
import { cleaned } from "../../supabase/functions/chat/adapters/changes/storable.ts";
import { CHANGES } from "../../supabase/functions/chat/adapters/changes/registry.ts";
import { Rows } from "./message_rows.ts";
import { readVectors } from "./vectors.ts";

type Row = Record<string, unknown>;

const CASES = Number(Deno.env.get("CROSSFADE_CASES") ?? 10_000);
const SEED = Number(Deno.env.get("CROSSFADE_SEED") ?? Math.floor(Math.random() * 2 ** 31));

/** Freezes a value all the way down, so that a change in place throws. */
function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) Object.values(value).forEach(frozen);
  return Object.freeze(value);
}

/** Whether two values share an object: a change of one would change the other. */
function shares(first: unknown, second: unknown): boolean {
  const parts = new Set<unknown>();
  const collect = (value: unknown): void => {
    if (typeof value !== "object" || value === null || parts.has(value)) return;
    parts.add(value);
    Object.values(value).forEach(collect);
  };
  collect(first);
  const meets = (value: unknown): boolean =>
    typeof value === "object" && value !== null &&
    (parts.has(value) || Object.values(value).some(meets));
  return meets(second);
}

const up = readVectors("messages_to_v2");
for (const { name, input, expect } of up.cases) {
  const message = frozen({ ...up.defaults.v1, ...input.message as Row });
  const base = "base" in input ? frozen({ ...up.defaults.v2, ...input.base as Row }) : undefined;
  Deno.test(`toV2() ${name}`, () => {
    const result = toV2(message, base);
    assert.deepEqual(result, { ...up.defaults.v2, ...expect.message as Row });
    assert.deepEqual(toV1(result), message);
  });
}

const down = readVectors("messages_to_v1");
for (const { name, input, expect } of down.cases) {
  const message = frozen({ ...down.defaults.v2, ...input.message as Row });
  Deno.test(`toV1() ${name}`, () => {
    const result = toV1(message);
    assert.deepEqual(result, { ...down.defaults.v1, ...expect.message as Row });
    assert.deepEqual(toV2(result, message), message);
  });
}

const merge = readVectors("messages_merge");
for (const { name, input, expect } of merge.cases) {
  const fill = (history: unknown) =>
    (history as Row[]).map((message) => ({
      ...merge.defaults[Array.isArray(message.content) ? "v2" : "v1"],
      ...message,
    }));
  Deno.test(`mergeMessageHistories() ${name}`, () => {
    const to = input.to === 1 ? 1 : 2;
    const histories = frozen([fill(input.first), fill(input.second)] as const);
    const merged = mergeMessageHistories(...histories, { to });
    const wanted = expect.messages as Row[];
    const named = merged.map((message, index) =>
      Object.fromEntries(Object.keys(wanted[index] ?? message).map((key) => [key, message[key]]))
    );
    assert.deepEqual(named, wanted);
  });
}

/** Runs a law on many generated messages and names the seed and the case that break it. */
function forAll(law: string, check: (rows: Rows) => void): void {
  Deno.test(`${law}, for ${CASES} generated messages`, () => {
    for (let place = 0; place < CASES; place++) {
      try {
        check(new Rows(SEED + place));
      } catch (error) {
        throw new Error(`${law}: CROSSFADE_SEED=${SEED + place}`, { cause: error });
      }
    }
  });
}

forAll("L1 up and down is the same V1 message", (rows) => {
  const message = frozen(rows.v1());
  same(toV1(toV2(message)), message);
});

forAll("L2 down and up over the stored message is that message", (rows) => {
  const message = frozen(rows.v2());
  same(toV2(toV1(message), message), message);
});

forAll("L3 and L4 an edit wins, and twice is once", (rows) => {
  const stored = frozen(rows.v2());
  const edited = frozen(rows.often(0.8) ? rows.edit(toV1(stored)) : rows.v1());
  const put = frozen(toV2(edited, stored));
  same(toV1(put), edited);
  same(toV2(edited, put), put);
});

const TEXTUAL: readonly unknown[] = ["text", "refusal", "tool_result"];

forAll("L5 an edit of the text leaves everything else", (rows) => {
  const stored = frozen(rows.v2());
  const put = toV2(frozen({ ...toV1(stored), content: "edited" }), stored);
  const others = ({ content }: Row) =>
    (content as Row[]).filter((block) => !TEXTUAL.includes(block?.type));
  same(others(put), others(stored));
  same({ ...put, content: [] }, { ...stored, content: [] });
});

forAll("L8 and L9 results share nothing with arguments and are the same twice", (rows) => {
  const stored = frozen(rows.v2());
  const message = frozen(rows.edit(toV1(stored)));
  const results = [toV2(message, stored), toV2(message), toV1(stored)];
  for (const result of results) assert.equal(shares([stored, message], result), false);
  const again = [toV2(message, stored), toV2(message), toV1(stored)];
  assert.equal(JSON.stringify(results), JSON.stringify(again));
});

Deno.test("toV2() leaves fields alone that the message does not have", () => {
  const stored = {
    role: "assistant",
    content: [{ type: "text", text: "a" }],
    metadata: { x: 1 },
    seq: 3,
  };
  const put = toV2({ metadata: { x: 2 } }, stored);
  same([put.content, put.role, put.seq], [stored.content, "assistant", 3]);
});

Deno.test("toV2() and toV1() do not number a message that has no number", () => {
  assert.equal("seq" in toV2({ role: "user", content: "a" }), false);
  assert.equal("sequence_number" in toV1({ role: "user", content: [] }), false);
});

Deno.test("toV2() and toV1() keep fields that neither version knows", () => {
  assert.equal(toV2({ role: "user", content: "a", tenant: "t" }).tenant, "t");
  assert.equal(toV1({ role: "user", content: [], tenant: "t" }).tenant, "t");
});

Deno.test("toV2() keeps an edit mark for which there is no time yet", () => {
  const message = { role: "user", content: "a", metadata: { edited: true } };
  same(toV1(toV2(message)), message);
});

Deno.test("detectVersion() never guesses", () => {
  const v1 = { role: "user", content: "a" };
  const v2 = { role: "tool", content: [] };
  same([detectVersion(v1), detectVersion(v2)], [1, 2]);
  assert.equal(detectVersion({ ...v1, schema_version: 1 }), 1);
  const contradictions = [{ ...v1, schema_version: 2 }, { ...v2, schema_version: 1 }, {
    ...v2,
    schema_version: 3,
  }];
  const foreign = [null, [], "a", {}, { role: "tool", content: "a" }, {
    role: "user",
    content: { a: 1 },
  }, { ...v1, metadata: [] }];
  for (const value of [...contradictions, ...foreign]) {
    assert.equal(detectVersion(value), undefined);
  }
  same([isV1Message(v2), isV2Message(v1)], [false, false]);
});

Deno.test("convertMessages() converts both formats and refuses a third by name", () => {
  const mixed = frozen([{ role: "user", content: "a" }, {
    role: "user",
    content: [{ type: "unknown", raw: 1 }],
  }]);
  const converted = convertMessages(mixed, 2);
  same(converted.map(detectVersion), [2, 2]);
  same(converted[1], mixed[1]);
  assert.equal(shares(mixed, converted), false);
  assert.throws(
    () => convertMessages([...mixed, { parts: [] }], 1),
    (error) => error instanceof MessageError && error.path[0] === 2,
  );
});

Deno.test("cleaned() changes what PostgreSQL refuses, and nothing else", () => {
  const fine = { a: ["😀", null, 1.5, true, { "": "\u0001" }] };
  assert.equal(cleaned(fine), fine);
  const wrong: [unknown, unknown][] = [
    [{ a: ["x", "a\0b"] }, { a: ["x", "a\ufffdb"] }],
    [{ a: "\ud83d" }, { a: "\ufffd" }],
    [{ "\udc00": 1 }, { "\ufffd": 1 }],
    [{ n: Infinity }, { n: null }],
  ];
  for (const [value, wanted] of wrong) same(cleaned(value), wanted);
});

Deno.test("withoutResidue() takes the reserved key away and nothing else", () => {
  const message = frozen({
    role: "user",
    content: "a",
    metadata: { _crossfade: { r: { role: "system" } }, x: 1 },
  });
  same(withoutResidue(message), { role: "user", content: "a", metadata: { x: 1 } });
  same(toV1(toV2(withoutResidue(message))).metadata, { x: 1 });
});

Deno.test("the changes are numbered in order, one version each", () => {
  same(CHANGES.map(({ version }) => version), CHANGES.map((_, index) => index + 2));
  for (const [index, { id }] of CHANGES.entries()) {
    assert.ok(id.startsWith(String(index + 1).padStart(4, "0")), id);
  }
});
