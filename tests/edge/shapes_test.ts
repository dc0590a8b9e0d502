import assert from "node:assert/strict";
import { toV1, toV2 } from "../../supabase/functions/chat/adapters/message_adapter.ts";
import { fromShape, toShape, type V1Shape } from "../../supabase/functions/chat/adapters/shapes.ts";
import { Rows } from "./message_rows.ts";

type Row = Record<string, unknown>;

const SHAPE: V1Shape = {
  chatId: "session_id",
  metadataAsText: true,
  columns: { image_paths: "images", function_call: "function_call", model: "model" },
};

const ROW: Row = {
  id: "00000000-0000-4000-8000-00000000000a",
  session_id: "00000000-0000-4000-8000-00000000000c",
  role: "assistant",
  content: "hi",
  metadata: '{ "tokens": {"prompt": 1},\n "rating": 5.0, "n": 1 }',
  model: "m-1",
  image_paths: ["a.png"],
  function_call: null,
  created_at: "2026-05-01T10:00:00.123456+00:00",
  tenant: "t",
};

/** Through both formats, as dual write would take it. */
function there(row: Row, shape: V1Shape): Row {
  return toShape(toV1(toV2(fromShape(row, shape))), shape, row);
}

Deno.test("fromShape() finds the parts of the V1 form in other columns", () => {
  const { metadata, chat_id, ...rest } = fromShape(ROW, SHAPE);
  assert.deepEqual(metadata, {
    tokens: { prompt: 1 },
    rating: 5,
    n: 1,
    images: ["a.png"],
    model: "m-1",
  });
  assert.equal(chat_id, ROW.session_id);
  assert.deepEqual(Object.keys(rest), ["id", "role", "content", "created_at", "tenant"]);
  const { content, model } = toV2(fromShape(ROW, SHAPE));
  assert.deepEqual([(content as Row[])[1]?.type, model], ["image", "m-1"]);
});

Deno.test("a row comes back to the byte, the text of its metadata too", () => {
  assert.equal(JSON.stringify(there(ROW, SHAPE)), JSON.stringify(ROW));
});

Deno.test("an edit changes what it touched", () => {
  const stored = toV2(fromShape(ROW, SHAPE));
  const edited = toV1({ ...stored, model: "m-2", usage: null });
  assert.deepEqual(toShape(edited, SHAPE, ROW), {
    ...ROW,
    model: "m-2",
    metadata: '{"n":1,"rating":5}',
  });
});

const ODD: readonly [string, Row][] = [
  ["metadata that is no object", { ...ROW, metadata: "[1" }],
  ["no metadata", { id: "a", session_id: "c", role: "user", content: "", model: null }],
  ["a key in metadata and in a column", { ...ROW, metadata: '{"model": "free"}' }],
  ["columns that are missing", { session_id: "c", role: "user", content: "a", metadata: "{}" }],
];

for (const [name, row] of ODD) {
  Deno.test(`nothing is lost: ${name}`, () => {
    const back = there(row, SHAPE);
    // Columns that a row does not have are null afterwards.
    const known = Object.fromEntries(Object.keys(row).map((key) => [key, back[key]]));
    assert.deepEqual(known, row);
    for (const [key, value] of Object.entries(back)) {
      if (!(key in row)) assert.ok(value === null || key === "metadata", key);
    }
  });
}

Deno.test("the V1 form itself is a shape, for 2000 generated messages", () => {
  for (let seed = 0; seed < 2000; seed++) {
    const row = new Rows(seed).v1();
    assert.equal(JSON.stringify(toShape(fromShape(row, {}), {}, row)), JSON.stringify(row));
    const asText = { ...row, metadata: JSON.stringify(row.metadata, null, 1) };
    const shape = { metadataAsText: true };
    assert.equal(JSON.stringify(there(asText, shape)), JSON.stringify(asText), `seed ${seed}`);
  }
});
