import assert from "node:assert/strict";
import {
  convertEvent,
  wantsStream,
} from "../../supabase/functions/chat/adapters/stream_adapter.ts";
import type { Model } from "../../supabase/functions/chat/model/model.ts";
import {
  readEvents,
  type StreamEvent,
} from "../../supabase/functions/_shared/crossfade/http/sse.ts";
import { ask, CHAT, type Chat, makeChat, newMessage, tell } from "./chat_fixture.ts";
import { converter, noAnswer } from "./fake_store.ts";

const STREAMING = { flags: [{ name: "enable_streaming_responses", default_value: true }] };
const encoder = new TextEncoder();

function streamOf(...pieces: readonly (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return ReadableStream.from(
    pieces.map((piece) => typeof piece === "string" ? encoder.encode(piece) : piece),
  );
}

async function read(stream: ReadableStream<Uint8Array>): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  for await (const { event, data } of readEvents(stream)) {
    events.push({ event, data: JSON.parse(data) });
  }
  return events;
}

Deno.test("readEvents() puts events together from any pieces", async () => {
  const text =
    'event: a\r\ndata: {"x":"ż😊"}\r\n\r\n: comment\n\ndata: 1\ndata: 2\n\nevent: b\rdata:3\r\r';
  const whole = [
    { event: "a", data: '{"x":"ż😊"}' },
    { event: "message", data: "1\n2" },
    { event: "b", data: "3" },
  ];
  const bytes = encoder.encode(`${text}\n`);
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.slice(at, at + size));
    const events = await Array.fromAsync(readEvents(streamOf(...pieces)));
    assert.deepEqual(events, whole, `pieces of ${size}`);
  }
});

Deno.test("readEvents() tells no event that has not ended", async () => {
  assert.deepEqual(await Array.fromAsync(readEvents(streamOf("data: 1\n\ndata: 2\n"))), [
    { event: "message", data: "1" },
  ]);
});

Deno.test("readEvents() gives up on an event without end", async () => {
  const endless = ReadableStream.from((function* () {
    for (;;) yield encoder.encode(`data: ${"x".repeat(65_536)}\n`);
  })());
  await assert.rejects(() => Array.fromAsync(readEvents(endless)), RangeError);
});

const MESSAGE = {
  id: "m1",
  chat_id: CHAT,
  role: "assistant",
  status: "complete",
  content: [{ type: "text", text: "Hello there" }],
  metadata: {},
  model: "m",
  seq: 3,
  schema_version: 2,
};
const V2_STREAM: readonly StreamEvent[] = [
  {
    event: "message_start",
    data: { api_version: "2", id: "m1", chat_id: CHAT, role: "assistant" },
  },
  { event: "text_delta", data: { text: "Hello " } },
  { event: "tool_call", data: { id: "c1", name: "clock", arguments: "{}" } },
  { event: "tool_result", data: { id: "c1", output: {}, is_error: false } },
  { event: "text_delta", data: { text: "there" } },
  { event: "message_complete", data: { message: MESSAGE } },
];

/** Converts what a stream tells, event by event. */
function converted(
  events: readonly StreamEvent[],
  conversion: { readonly from: 1 | 2; readonly to: 1 | 2 },
): StreamEvent[] {
  return events.map((event) => convertEvent(converter, event, conversion))
    .filter((event) => event !== undefined);
}

Deno.test("a V1 client can read a V2 stream", () => {
  const events = converted(V2_STREAM, { from: 2, to: 1 });
  assert.deepEqual(events.map(({ event }) => event), ["start", "delta", "delta", "done"]);
  assert.equal(events[0]?.data.api_version, "1");
  const done = events.at(-1)?.data.message as Record<string, unknown>;
  assert.equal(events.slice(1, -1).map(({ data }) => data.content).join(""), done.content);
  assert.equal(done.sequence_number, 3);
});

Deno.test("a V2 client can read a V1 stream", () => {
  const down = converted(V2_STREAM, { from: 2, to: 1 });
  const events = converted(down, { from: 1, to: 2 });
  assert.deepEqual(
    events.map(({ event }) => event),
    ["message_start", "text_delta", "text_delta", "message_complete"],
  );
  assert.equal(events[0]?.data.api_version, "2");
  const { message } = events.at(-1)?.data as { message: Record<string, unknown> };
  assert.deepEqual(message.content, MESSAGE.content);
  assert.equal(message.model, "m");
});

Deno.test("an error event is the same in both formats", () => {
  const error = { event: "error", data: { status: 503, error: "x" } };
  assert.deepEqual(convertEvent(converter, error, { from: 2, to: 1 }), error);
  assert.deepEqual(convertEvent(converter, error, { from: 1, to: 2 }), error);
});

Deno.test("events that neither format has are left out of a converted stream", () => {
  assert.deepEqual(converted([{ event: "ping", data: {} }], { from: 2, to: 1 }), []);
});

Deno.test("a stream is asked for by the body, or by the Accept header", () => {
  const asks = (accept: string, body = {}) => wantsStream(new Headers({ accept }), body);
  assert.equal(asks("text/event-stream"), true);
  assert.equal(asks("application/json, Text/Event-Stream;q=0.5"), true);
  assert.equal(asks("text/event-stream;q=0"), false);
  assert.equal(asks("text/event-stream;q=0.000, application/json"), false);
  assert.equal(asks('text/event-stream;note="a, b;q=0"'), true);
  assert.equal(asks('application/json;note="x, text/event-stream"'), false);
  assert.equal(asks("application/json"), false);
  assert.equal(asks("text/event-stream", { stream: false }), false);
  assert.equal(asks("application/json", { stream: true }), true);
});

function replying(chat: Chat, version: number): Promise<Response> {
  return chat.app(ask({ path: `/v${version}/reply`, body: { chat_id: CHAT, stream: true } }));
}

Deno.test("a streamed reply ends with the message as it is stored, and is counted once", async () => {
  for (const version of [1, 2]) {
    const chat = makeChat({ stage: "live" }, STREAMING);
    await tell(chat, { path: "/messages", body: newMessage(1) });
    const response = await replying(chat, version);
    const text = await response.text();
    await Promise.all(chat.work);
    const events = await read(streamOf(text));
    const { message } = events.at(-1)?.data as { message: { id: string } };
    const got = await tell(chat, { path: `/v${version}/messages/${message.id}` });
    assert.deepEqual(message, got.body);
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    assert.deepEqual(chat.events.map(({ outcome }) => outcome), ["ok", "ok", "ok"]);
  }
});

Deno.test("a stream whose storing fails says so in its last event and is counted as an error", async () => {
  const chat = makeChat({ stage: "live" }, STREAMING);
  chat.store.fail("insert", 2, noAnswer());
  chat.store.fail("insert", 1, noAnswer());
  const events = await read(streamOf(await (await replying(chat, 2)).text()));
  await Promise.all(chat.work);
  assert.equal(events.at(-1)?.event, "error");
  assert.equal(events.at(-1)?.data.code, "UPSTREAM_UNAVAILABLE");
  assert.deepEqual(chat.events.map(({ outcome }) => outcome), ["error"]);
});

Deno.test("a client that leaves ends the model's work, and what was said is kept", async () => {
  let ended = false;
  const model: Model = ({ onText, signal }) => {
    onText?.("Half an answer");
    return new Promise((_, reject) => {
      signal?.addEventListener("abort", () => {
        ended = true;
        reject(signal.reason);
      });
    });
  };
  const chat = makeChat({ stage: "live" }, STREAMING, { model });
  const reader = (await replying(chat, 2)).body?.getReader();
  await reader?.read();
  await reader?.cancel();
  await Promise.all(chat.work);
  assert.ok(ended);
  const [row] = [...chat.store.tables[2].values()];
  assert.deepEqual(row?.content, [{ type: "text", text: "Half an answer" }]);
  assert.equal(row?.status, "cancelled");
});

Deno.test("a refused stream is a plain problem: nothing has been sent yet", async () => {
  const chat = makeChat({ stage: "live" }, STREAMING);
  const body = { chat_id: "none", stream: true };
  const told = await tell(chat, { path: "/reply", body });
  assert.deepEqual([told.status, told.body.code], [422, "INVALID_MESSAGE"]);
});
