/**
 * The eleven losses of the converter that the AI SDK's guide "Migrate your data" recommends
 * (reference/delivery.md 4.1), in the words of our shapes: here none of them happens.
 */

import assert from "node:assert/strict";
import {
  convertMessages,
  detectVersion,
  toV1,
  toV2,
} from "../../supabase/functions/chat/adapters/message_adapter.ts";

type Row = Record<string, unknown>;

const SHARED = {
  id: "00000000-0000-4000-8000-00000000000a",
  chat_id: "00000000-0000-4000-8000-00000000000c",
  created_at: "2026-05-01T10:00:00.123456+00:00",
};

function stored(...content: Row[]): Row {
  return { ...toV2({ ...SHARED, role: "assistant", content: "" }), content };
}

/** A V1 client reads a message, changes its text and writes it back. */
function afterAnEdit(message: Row, content: string): Row {
  return toV2({ ...toV1(message), content }, message);
}

/** Blocks are there after a V1 client has read and written the message, and after an edit. */
function survive(...blocks: Row[]): void {
  const message = stored(...blocks, { type: "text", text: "a" });
  assert.deepEqual(toV2(toV1(message), message), message);
  const put = afterAnEdit(message, "b").content as Row[];
  assert.deepEqual(put, [...blocks, { type: "text", text: "b" }]);
}

Deno.test("loss 1: a plain old message is known as one and converted", () => {
  const plain = { id: "1", role: "user", content: "hi" };
  assert.equal(detectVersion(plain), 1);
  assert.deepEqual(toV2(plain).content, [{ type: "text", text: "hi" }]);
  assert.throws(() => convertMessages([{ id: "1", role: "user", parts: [] }], 2));
});

Deno.test("loss 2: time, annotations and attachments are kept going up", () => {
  const attachments = [{ url: "https://x/1", name: "a.pdf", content_type: "application/pdf" }];
  const annotations = [{ note: 1 }];
  const message = {
    ...SHARED,
    role: "user",
    content: "hi",
    metadata: { attachments, annotations },
  };
  const up = toV2(message);
  assert.equal(up.created_at, SHARED.created_at);
  assert.deepEqual((up.content as Row[])[1], {
    type: "file",
    source: { kind: "url", url: "https://x/1" },
    media_type: "application/pdf",
    filename: "a.pdf",
  });
  assert.deepEqual(toV1(up), message);
});

Deno.test("loss 3: the signature of reasoning is kept to the byte", () => {
  survive({ type: "reasoning", text: "hm", signature: "EqQB/+==" }, {
    type: "reasoning",
    redacted: true,
    encrypted: "zz",
  });
});

Deno.test("loss 4: the step of a tool's call is kept, up and down", () => {
  survive({
    type: "tool_call",
    tool_call_id: "a",
    name: "f",
    input: {},
    state: "complete",
    extras: { step: 2 },
  });
  const tool_calls = [{
    id: "a",
    type: "function",
    function: { name: "f", arguments: "{}" },
    step: 2,
  }];
  const message = { ...SHARED, role: "assistant", content: "", metadata: { tool_calls } };
  assert.deepEqual(toV1(toV2(message)), message);
});

Deno.test("loss 5: a role that is not the assistant's does not become it", () => {
  for (const role of ["data", "user", "system"]) {
    const message = { ...SHARED, role, content: "a", metadata: {} };
    assert.equal(toV2(message).role, role);
    assert.deepEqual(toV1(toV2(message)), message);
  }
  for (const role of ["tool", "developer"]) {
    const message = { ...stored(), role };
    assert.equal(afterAnEdit(message, "b").role, role);
  }
});

Deno.test("loss 6: all texts are shown, not the last one", () => {
  const message = stored({ type: "text", text: "one" }, { type: "text", text: "two" });
  assert.equal(toV1(message).content, "one\n\ntwo");
  assert.deepEqual(afterAnEdit(message, "one\n\nthree").content, [
    { type: "text", text: "one" },
    { type: "text", text: "three" },
  ]);
});

Deno.test("loss 7: the error of a failed tool is kept, and its state", () => {
  survive({
    type: "tool_call",
    tool_call_id: "a",
    name: "f",
    input: { x: 1 },
    state: "error",
    error: "timeout",
  });
  survive({ type: "tool_result", tool_call_id: "a", output: "timeout", is_error: true });
});

Deno.test("loss 8: tools that nobody declared are kept", () => {
  survive({ type: "dynamic-tool", toolName: "f", toolCallId: "a", input: { x: 1 } });
});

Deno.test("loss 9: steps, sources and data are kept", () => {
  survive({ type: "step-start" }, { type: "source-document", sourceId: "s", title: "t" }, {
    type: "data-weather",
    data: { degrees: 12 },
  });
});

Deno.test("loss 10: metadata of the message and of the provider is kept", () => {
  survive({ type: "file", source: { kind: "url", url: "u" }, providerMetadata: { p: { x: 1 } } });
  const message = { ...stored(), metadata: { mine: 1, providerMetadata: { p: { x: 1 } } } };
  assert.deepEqual(afterAnEdit(message, "b").metadata, message.metadata);
  const old = { ...SHARED, role: "user", content: "a", metadata: { mine: null, deep: { x: [] } } };
  assert.deepEqual(toV1(toV2(old)), old);
});

Deno.test("loss 11: names of files are kept and shown", () => {
  const file = { type: "file", source: { kind: "url", url: "u" }, filename: "a.pdf", size: 3 };
  survive(file);
  const { attachments } = toV1(stored(file)).metadata as Row;
  assert.deepEqual(attachments, [{ url: "u", name: "a.pdf", size: 3 }]);
});
