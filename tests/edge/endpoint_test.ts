/** What an endpoint is asked, and what a reply stores of its answers. */

import assert from "node:assert/strict";
import { Problem } from "../../supabase/functions/_shared/crossfade/http/errors.ts";
import { endpointModel } from "../../supabase/functions/chat/model/endpoint.ts";
import type { ProviderName } from "../../supabase/functions/chat/formats/requests.ts";
import { saying, type Turn } from "../../supabase/functions/chat/model/model.ts";
import { readModel } from "../../supabase/functions/chat/model/settings.ts";
import { ask, CHAT, makeChat, newMessage, tell } from "./chat_fixture.ts";
import { calling } from "./model_fixture.ts";

type Row = Record<string, unknown>;
type Served = Row | string | Response | Error;

const URL = "https://models.example.com/v1/";
const model = endpointModel({ url: URL, name: "m", key: "secret" });
const CLOCK = { name: "clock.now", description: "the time", input_schema: { type: "object" } };

/** Answers the requests of a run one after the other; returns what was asked. */
async function serving<T>(
  answers: readonly Served[],
  run: () => Promise<T>,
): Promise<{ readonly value: T; readonly asked: readonly Row[] }> {
  const asked: Row[] = [];
  const real = globalThis.fetch;
  globalThis.fetch = (_url, init) => {
    asked.push(JSON.parse(String(init?.body)));
    const answer = answers[asked.length - 1] ?? new Error("nothing more");
    if (answer instanceof Error) return Promise.reject(answer);
    if (answer instanceof Response) return Promise.resolve(answer);
    if (typeof answer !== "string") return Promise.resolve(Response.json(answer));
    const headers = { "content-type": "text/event-stream; charset=utf-8" };
    return Promise.resolve(new Response(answer, { headers }));
  };
  try {
    return { value: await run(), asked };
  } finally {
    globalThis.fetch = real;
  }
}

const said = (message: Row, finish_reason = "stop"): Row => ({
  model: "m-1",
  choices: [{ message, finish_reason }],
  usage: { prompt_tokens: 7, completion_tokens: 3 },
});
const calls = (...ids: readonly string[]): Row => ({
  content: null,
  reasoning_content: "I need the time",
  tool_calls: ids.map((id) => ({
    id,
    type: "function",
    function: { name: "clock", arguments: "{}" },
  })),
});

const result = (id: string, output: unknown): Row => ({
  ...{ type: "tool_result", tool_call_id: id, output, is_error: false },
});

Deno.test("a history of several results, late ones and refusals is sent in order", async () => {
  const turns: Turn[] = [
    saying("user", "two things"),
    { role: "assistant", content: [calling("a", "clock.now"), calling("b", "clock.now")] },
    saying("user", "well?"),
    { role: "tool", content: [result("b", { at: 2 }), result("a", "one")] },
    { role: "assistant", content: [{ type: "refusal", text: "I cannot." }] },
    { role: "assistant", content: [calling("gone", "clock.now")] },
    saying("user", "go on"),
  ];
  const request = { turns, tools: [CLOCK], parallelTools: false };
  const { value, asked } = await serving([said({ content: "ok" })], () => model(request));
  const call = (id: string) => ({
    id,
    type: "function",
    function: { name: "clock__now", arguments: "{}" },
  });
  assert.deepEqual(asked, [{
    model: "m",
    messages: [
      { role: "user", content: "two things" },
      { role: "assistant", content: null, tool_calls: [call("a"), call("b")] },
      { role: "tool", tool_call_id: "a", content: "one" },
      { role: "tool", tool_call_id: "b", content: '{"at":2}' },
      { role: "user", content: "well?" },
      { role: "assistant", content: "I cannot." },
      { role: "user", content: "go on" },
    ],
    tools: [{
      type: "function",
      function: { name: "clock__now", description: "the time", parameters: { type: "object" } },
    }],
    parallel_tool_calls: false,
  }]);
  assert.deepEqual([value.model, value.outcome], ["m-1", "answered"]);
});

/** Asks one question of a provider; returns where, with what, and what was read of the answer. */
async function asking(provider: ProviderName, answer: Served) {
  const turns: Turn[] = [
    saying("system", "Be brief."),
    saying("assistant", "Hello!"),
    saying("user", "what time?"),
  ];
  const places: string[] = [];
  const asks = endpointModel({ url: URL, name: "m", key: "secret", provider });
  const { value, asked: [body] } = await serving([answer], () => {
    const fetched = globalThis.fetch;
    globalThis.fetch = (url, init) => {
      const { "Content-Type": _, ...keys } = init?.headers as Record<string, string>;
      places.push(String(url), JSON.stringify(keys));
      return fetched(url, init);
    };
    return asks({ turns, tools: [CLOCK], parallelTools: false });
  });
  const calls = value.content.map(({ tool_call_id, name }) => [tool_call_id, name]);
  return { places, body, calls, outcome: value.outcome };
}

Deno.test("Responses are asked in their words, keep nothing, and are read", async () => {
  const item = { type: "function_call", call_id: "c", name: "clock__now", arguments: "{}" };
  const { places, body, calls, outcome } = await asking("openai_responses", {
    object: "response",
    status: "completed",
    output: [item],
  });
  assert.deepEqual(places, [
    "https://models.example.com/v1/responses",
    '{"Authorization":"Bearer secret"}',
  ]);
  assert.deepEqual(body, {
    model: "m",
    input: [
      { type: "message", role: "system", content: [{ type: "input_text", text: "Be brief." }] },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "Hello!" }] },
      { type: "message", role: "user", content: [{ type: "input_text", text: "what time?" }] },
    ],
    store: false,
    include: ["reasoning.encrypted_content"],
    tools: [{
      type: "function",
      name: "clock__now",
      description: "the time",
      parameters: { type: "object" },
      strict: null,
    }],
    parallel_tool_calls: false,
  });
  assert.deepEqual([outcome, calls], ["called", [["c", "clock.now"]]]);
});

Deno.test("Anthropic is asked in its words, the user first, and is read", async () => {
  const { places, body, calls, outcome } = await asking("anthropic", {
    type: "message",
    content: [{ type: "tool_use", id: "t", name: "clock__now", input: {} }],
    stop_reason: "tool_use",
  });
  assert.deepEqual(places, [
    "https://models.example.com/v1/messages",
    '{"X-API-Key":"secret","Anthropic-Version":"2023-06-01"}',
  ]);
  assert.deepEqual(body, {
    model: "m",
    max_tokens: 8_192,
    system: [{ type: "text", text: "Be brief." }],
    messages: [{ role: "user", content: [{ type: "text", text: "what time?" }] }],
    tools: [{ name: "clock__now", description: "the time", input_schema: { type: "object" } }],
    tool_choice: { type: "auto", disable_parallel_tool_use: true },
  });
  assert.deepEqual([outcome, calls], ["called", [["t", "clock.now"]]]);
});

Deno.test("MODEL_FORMAT is the name of a provider's format, or nothing starts", () => {
  const set = { MODEL_URL: "https://x.example/v1" };
  assert.equal(typeof readModel({ ...set, MODEL_FORMAT: "anthropic" }).model, "function");
  assert.equal(typeof readModel(set).model, "function");
  assert.deepEqual(readModel({ MODEL_FORMAT: "gemini" }), {});
  assert.throws(() => readModel({ ...set, MODEL_FORMAT: "gemini" }), /openai_chat, openai_resp/);
});

Deno.test("a tool that was called by its alias is known by its name", async () => {
  const called = { id: "a", function: { name: "clock__now", arguments: "{}" } };
  const { value } = await serving(
    [said({ tool_calls: [called] })],
    () => model({ turns: [saying("user", "q")], tools: [CLOCK], parallelTools: true }),
  );
  assert.equal(value.content[0]?.name, "clock.now");
});

Deno.test("an endpoint that gives no answer at all is a 503", async () => {
  const failures: readonly Served[] = [
    new Error("connection refused"),
    new Response("out of order", { status: 500 }),
    new Response("<html>", { headers: { "content-type": "application/json" } }),
    { choices: [{ message: { content: null } }] },
    { error: { message: "quota" } },
    "",
    'data: {"error":{"message":"quota of org-123"}}\n\n',
  ];
  for (const failure of failures) {
    const request = { turns: [saying("user", "q")], tools: [], parallelTools: true };
    await assert.rejects(
      () => serving([failure], () => model(request)),
      (error) => error instanceof Problem && error.status === 503 && !error.message.includes("org"),
    );
  }
});

Deno.test("a model that never ends is given up, and what it said is kept", async () => {
  const piece = 'data: {"choices":[{"delta":{"content":"so far"}}]}\n\n';
  let release = (): void => {};
  const body = new ReadableStream<Uint8Array>({
    start(sink) {
      sink.enqueue(new TextEncoder().encode(piece));
      release = () => sink.error(new DOMException("late", "TimeoutError"));
    },
  });
  const headers = { "content-type": "text/event-stream" };
  const onText = () => release();
  const { value } = await serving(
    [new Response(body, { headers })],
    () => model({ turns: [saying("user", "q")], tools: [], parallelTools: true, onText }),
  );
  assert.deepEqual([value.outcome, value.failure], ["failed", "timeout"]);
  assert.deepEqual(value.content, [{ type: "text", text: "so far" }]);
});

interface Stored {
  readonly status: number;
  /** The rows of backend 2 without the user's. */
  readonly rows: readonly Row[];
  readonly asked: readonly Row[];
}

async function replied(answers: readonly Served[], stream = false): Promise<Stored> {
  const names = ["use_new_tool_framework", "enable_parallel_tools", "enable_streaming_responses"];
  const flags = { flags: names.map((name) => ({ name, default_value: true })) };
  const chat = makeChat({ stage: "live" }, flags, { model });
  await tell(chat, { path: "/messages", body: newMessage(1, "what time is it?") });
  const { value, asked } = await serving(answers, async () => {
    const response = await chat.app(ask({ path: "/v2/reply", body: { chat_id: CHAT, stream } }));
    const text = await response.text();
    await Promise.all(chat.work);
    return { status: response.status, text };
  });
  return { status: value.status, rows: [...chat.store.tables[2].values()].slice(1), asked };
}

const OUTCOMES: readonly [string, Row, readonly unknown[]][] = [
  ["a refusal", said({ content: null, refusal: "I cannot." }), ["complete", "refusal"]],
  ["a filter", said({ content: "So" }, "content_filter"), ["incomplete", "content_filter"]],
  ["too long", said({ content: "So" }, "length"), ["incomplete", "length"]],
  ["nothing but thought", said({ content: null, reasoning: "hm" }, "length"), [
    "incomplete",
    "length",
  ]],
  ["nothing", said({ content: "" }), ["complete", "stop"]],
  ["a call nobody could run", said(calls("a"), "length"), ["incomplete", "length"]],
];

for (const [name, answer, wanted] of OUTCOMES) {
  Deno.test(`what happened is stored as it is: ${name}`, async () => {
    const { status, rows } = await replied([answer]);
    assert.equal(status, 201);
    const [row] = rows;
    assert.equal(rows.length, 1);
    assert.deepEqual([row?.status, row?.finish_reason, row?.error], [...wanted, undefined]);
  });
}

Deno.test("a stream that breaks off is stored as far as it came, and says why", async () => {
  const piece = 'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n';
  for (const [end, code] of [["", "stream_ended"], ["event: error\ndata: {}\n\n", "model_error"]]) {
    const { status, rows: [row] } = await replied([piece + end], true);
    assert.equal(status, 200);
    assert.deepEqual([row?.status, row?.finish_reason], ["incomplete", "error"]);
    assert.deepEqual(row?.content, [{ type: "text", text: "Hello" }]);
    assert.equal((row?.error as Row).code, code);
  }
});

Deno.test("the second question holds the thought that the calls came from", async () => {
  const { rows, asked } = await replied([said(calls("a", "b")), said({ content: "noon" })]);
  const [, second] = asked;
  const [, step, ...results] = second?.messages as Row[];
  assert.equal(step?.reasoning_content, "I need the time");
  assert.deepEqual(results.map(({ tool_call_id }) => tool_call_id), ["a", "b"]);
  assert.deepEqual(rows.map(({ role }) => role), ["assistant", "tool", "tool", "assistant"]);
  const [first] = rows;
  const blocks = first?.content as Row[];
  assert.deepEqual(blocks.map(({ type, state, executor }) => [type, state, executor]), [
    ["reasoning", undefined, undefined],
    ["tool_call", "complete", "server"],
    ["tool_call", "complete", "server"],
  ]);
});

Deno.test("no tool runs on arguments that could not be stored", async () => {
  const given = [{ id: "a", function: { name: "clock", arguments: '{"time_zone":"a\0b"}' } }];
  const { rows } = await replied([said({ tool_calls: given }), said({ content: "sorry" })]);
  const [call] = rows[0]?.content as Row[];
  const [told] = rows[1]?.content as Row[];
  assert.deepEqual([call?.state, told?.is_error], ["error", true]);
  assert.match(String(told?.output), /cannot be stored/);
  assert.ok(!JSON.stringify(rows).includes("\\u0000"));
});
