/** What models answer in the wild, whole and streamed, and what the reader makes of it. */

import assert from "node:assert/strict";
import { argumentsOf } from "../../supabase/functions/chat/adapters/changes/items.ts";
import { isToRun, type ModelAnswer } from "../../supabase/functions/chat/formats/answer.ts";
import { readAnswer, readBody } from "../../supabase/functions/chat/formats/read_answer.ts";

type Row = Record<string, unknown>;

/** What is wanted of an answer: `calls` as "id name arguments", `thought` the reasoning's text. */
interface Wanted {
  readonly outcome: ModelAnswer["outcome"];
  readonly text?: string;
  readonly thought?: string;
  readonly refusal?: string;
  readonly calls?: readonly string[];
  readonly finish?: string;
  readonly unknown?: readonly unknown[];
}

function seen(answer: ModelAnswer): Wanted {
  const of = (type: string) =>
    answer.content.filter((block) => block.type === type).map(({ text }) => String(text)).join("|");
  const calls = answer.content.filter(isToRun)
    .map((block) => `${block.tool_call_id} ${block.name} ${argumentsOf(block)}`);
  const unknown = answer.content.filter(({ type }) => type === "unknown").map(({ raw }) => raw);
  return {
    outcome: answer.outcome,
    text: of("text"),
    thought: of("reasoning"),
    refusal: of("refusal"),
    calls,
    finish: answer.finishReason,
    unknown,
  };
}

function expectSeen(answer: ModelAnswer, wanted: Wanted): void {
  const nothing = { text: "", thought: "", refusal: "", calls: [], unknown: [] };
  const finish = wanted.finish ?? answer.finishReason;
  assert.deepEqual(seen(answer), { ...nothing, finish, ...wanted });
}

function bodyOf(text: string): ReadableStream<Uint8Array> {
  return new Response(text).body ?? new ReadableStream();
}

const events = (...rows: readonly (Row | string)[]) =>
  rows.map((row) => typeof row === "string" ? row : `data: ${JSON.stringify(row)}\n\n`).join("");
const DONE = "data: [DONE]\n\n";
const delta = (piece: Row, finish: string | null = null, index: unknown = 0): Row => ({
  choices: [{ index, delta: piece, finish_reason: finish }],
});
const said = (message: Row, finish: string | null = "stop", extra: Row = {}): Row => ({
  choices: [{ index: 0, message: { role: "assistant", ...message }, finish_reason: finish }],
  usage: { prompt_tokens: 1, completion_tokens: 1 },
  ...extra,
});
const calls = (...all: readonly Row[]): Row => ({ tool_calls: all });
const call = (keys: Row, name: unknown, given: unknown): Row => ({
  ...keys,
  function: { ...name === undefined ? {} : { name }, arguments: given },
});

const WHOLE: readonly [string, unknown, Wanted][] = [
  ["arguments are an object", said(calls(call({ id: "c1" }, "search", { q: "x" })), "tool_calls"), {
    outcome: "called",
    calls: ['c1 search {"q":"x"}'],
  }],
  ["a refusal", said({ content: null, refusal: "I cannot." }), {
    outcome: "refused",
    refusal: "I cannot.",
    finish: "refusal",
  }],
  [
    "content is a list of parts",
    said({
      content: [{ type: "thinking", thinking: [{ type: "text", text: "hm" }] }, {
        type: "text",
        text: "Hello",
      }],
    }),
    { outcome: "answered", text: "Hello", thought: "hm" },
  ],
  [
    "a refusal is a part of the content",
    said({ content: [{ type: "refusal", refusal: "No." }, "and text"] }),
    { outcome: "refused", refusal: "No.", text: "and text" },
  ],
  ["all was spent on reasoning", said({ content: null, reasoning_content: "hm" }, "length"), {
    outcome: "length",
    thought: "hm",
    finish: "length",
  }],
  ["nothing is said", said({ content: "" }), { outcome: "empty", finish: "stop" }],
  ["nothing is said, and nothing of the end", said({ content: null }, null), {
    outcome: "failed",
    finish: "error",
  }],
  ["reasoning_content", said({ content: "Hi", reasoning_content: "thoughts" }), {
    outcome: "answered",
    text: "Hi",
    thought: "thoughts",
  }],
  ["reasoning", said({ content: "Hi", reasoning: "thoughts" }), {
    outcome: "answered",
    text: "Hi",
    thought: "thoughts",
  }],
  [
    "reasoning_details, signed",
    said({
      content: "Hi",
      reasoning: "a",
      reasoning_details: [{ type: "reasoning.text", text: "a", signature: "s" }],
    }),
    { outcome: "answered", text: "Hi", thought: "a" },
  ],
  [
    "calls end with stop",
    said(calls(call({ id: "a" }, "clock", "{}"), call({ id: "b" }, "clock", "{}"))),
    { outcome: "called", calls: ["a clock {}", "b clock {}"], finish: "tool_calls" },
  ],
  ["a call of the old form", said({ function_call: { name: "f", arguments: '{"a":1}' } }), {
    outcome: "called",
    calls: ['call_0 f {"a":1}'],
  }],
  [
    "no ids, and the same id twice",
    said(
      calls(
        call({ id: "" }, "f", "{}"),
        call({}, "g", "{}"),
        call({ id: "x" }, "f", "{}"),
        call({ id: "x" }, "g", "{}"),
        call({ id: "x" }, "f", "{}"),
      ),
    ),
    { outcome: "called", calls: ["call_0 f {}", "call_1 g {}", "x f {}", "x_2 g {}"] },
  ],
  ["one call and no list", said({ tool_calls: call({ id: "a" }, "f", "{}") }), {
    outcome: "called",
    calls: ["a f {}"],
  }],
  ["a call without a name", said(calls(call({ id: "a" }, undefined, "{}"))), {
    outcome: "empty",
    unknown: [call({ id: "a" }, undefined, "{}")],
  }],
  ["a custom call", said(calls({ id: "a", type: "custom", custom: { name: "sql", input: "x" } })), {
    outcome: "called",
    calls: ["a sql x"],
  }],
  ["arguments cut by the length", said(calls(call({ id: "a" }, "f", '{"q":')), "length"), {
    outcome: "length",
    calls: ['a f {"q":'],
  }],
  ["filtered in the middle", said({ content: "So then" }, "content_filter"), {
    outcome: "filtered",
    text: "So then",
  }],
  ["an error beside the answer", said({ content: "So" }, "error", { error: { message: "x" } }), {
    outcome: "failed",
    text: "So",
  }],
  ["an error instead of it", { error: { message: "x", code: 500 } }, { outcome: "failed" }],
  ["two answers", {
    choices: [{ index: 1, message: { content: "b" } }, {
      index: 0,
      message: { content: "a" },
      finish_reason: "eos",
    }],
  }, {
    outcome: "answered",
    text: "a",
    finish: "stop",
  }],
  ["an old completion", { choices: [{ text: "a", finish_reason: "stop" }] }, {
    outcome: "answered",
    text: "a",
  }],
  ["keys nobody knows", said({ content: "a", executed_tools: [{ n: 1 }], audio: null }), {
    outcome: "answered",
    text: "a",
    unknown: [{ executed_tools: [{ n: 1 }] }],
  }],
  ["no object", "hello", { outcome: "failed" }],
  ["Responses", {
    object: "response",
    status: "completed",
    output: [
      { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "ENC" },
      {
        type: "message",
        id: "msg_1",
        content: [{ type: "output_text", text: "a" }, { type: "refusal", refusal: "no" }],
      },
      { type: "web_search_call", id: "ws_1", status: "completed", action: { query: "x" } },
      { type: "function_call", id: "fc_1", call_id: "c1", name: "f", arguments: "{}" },
    ],
  }, {
    outcome: "called",
    text: "a",
    thought: "undefined",
    refusal: "no",
    calls: ["c1 f {}"],
  }],
  ["Responses, cut", {
    object: "response",
    status: "incomplete",
    incomplete_details: { reason: "max_output_tokens" },
    output: [{ type: "message", id: "msg_1", content: [{ type: "output_text", text: "a" }] }],
  }, { outcome: "length", text: "a", finish: "length" }],
  [
    "Responses, failed",
    { object: "response", status: "failed", output: [], error: { code: "x" } },
    {
      outcome: "failed",
    },
  ],
  ["Anthropic", {
    type: "message",
    content: [
      { type: "thinking", thinking: "hm", signature: "s" },
      { type: "redacted_thinking", data: "d" },
      { type: "text", text: "a" },
      { type: "server_tool_use", id: "srv", name: "web_search", input: {} },
      { type: "web_search_tool_result", tool_use_id: "srv", content: [] },
      { type: "tool_use", id: "t1", name: "f", input: { a: 1 } },
    ],
    stop_reason: "tool_use",
    usage: { input_tokens: 3, output_tokens: 4 },
  }, { outcome: "called", text: "a", thought: "hm|undefined", calls: ['t1 f {"a":1}'] }],
  ["Anthropic refuses", { type: "message", content: [], stop_reason: "refusal" }, {
    outcome: "refused",
    finish: "refusal",
  }],
  ["Anthropic pauses", {
    type: "message",
    content: [{ type: "text", text: "a" }],
    stop_reason: "pause_turn",
  }, { outcome: "paused", text: "a", finish: "pause_turn" }],
];

for (const [name, body, wanted] of WHOLE) {
  Deno.test(`a whole answer: ${name}`, () => expectSeen(readAnswer(body), wanted));
}

const message = (id: string, text: string): Row => ({
  type: "message",
  id,
  content: [{ type: "output_text", text }],
});

const STREAMED: readonly [string, string, Wanted, ...string[]][] = [
  [
    "two calls, both with index 0",
    events(
      delta(calls(call({ index: 0, id: "a" }, "clock", '{"z":1}'))),
      delta(calls(call({ index: 0, id: "b" }, "search", '{"q":"x"}'))),
      delta({}, "tool_calls"),
      DONE,
    ),
    { outcome: "called", calls: ['a clock {"z":1}', 'b search {"q":"x"}'] },
  ],
  [
    "two whole calls with index 0 and no ids",
    events(
      delta(calls(call({ index: 0 }, "f", "{}"))),
      delta(calls(call({ index: 0 }, "f", '{"a":1}'))),
      delta(calls(call({ index: 0, id: "" }, "g", ""))),
      delta({}, "stop"),
    ),
    { outcome: "called", calls: ["call_0 f {}", 'call_1 f {"a":1}', "call_2 g "] },
  ],
  [
    'later pieces have the id ""',
    events(
      delta(calls(call({ index: 0, id: "call_xyz" }, "search", ""))),
      delta(calls(call({ index: 0, id: "" }, "", '{"q":1}'))),
      delta({}, "tool_calls"),
      DONE,
    ),
    { outcome: "called", calls: ['call_xyz search {"q":1}'] },
  ],
  [
    "id and name in every piece",
    events(
      delta(calls(call({ index: 0, id: "a" }, "f", '{"q"'))),
      delta(calls(call({ index: 0, id: "a" }, "f", ":1}"))),
      delta({}, "tool_calls"),
    ),
    { outcome: "called", calls: ['a f {"q":1}'] },
  ],
  [
    "no index, interleaved by id",
    events(
      delta(calls(call({ id: "a" }, "f", '{"n":'), call({ id: "b" }, "g", '{"m":'))),
      delta(calls(call({ id: "a" }, undefined, "1}"), call({ id: "b" }, undefined, "2}"))),
      delta({}, "tool_calls"),
    ),
    { outcome: "called", calls: ['a f {"n":1}', 'b g {"m":2}'] },
  ],
  [
    "indices beyond the list",
    events(
      delta(calls(call({ index: 7, id: "a" }, "f", '{"n":'))),
      delta(calls(call({ index: -1, id: "b" }, "g", "{}"))),
      delta(calls(call({ index: 7 }, undefined, "1}"))),
      delta({}, "tool_calls"),
    ),
    { outcome: "called", calls: ['a f {"n":1}', "b g {}"] },
  ],
  [
    "a name in pieces",
    events(
      delta(calls(call({ index: 0, id: "a" }, "get_", ""))),
      delta(calls(call({ index: 0 }, "weather", ""))),
      delta(calls(call({ index: 0 }, undefined, "{}"))),
      delta({}, "tool_calls"),
    ),
    { outcome: "called", calls: ["a get_weather {}"] },
  ],
  [
    "a call of the old form",
    events(
      delta({ function_call: { name: "f", arguments: "" } }),
      delta({ function_call: { arguments: "{}" } }),
      delta({}, "function_call"),
    ),
    { outcome: "called", calls: ["call_0 f {}"] },
  ],
  [
    "a character in two pieces",
    events(
      'data: {"choices":[{"index":0,"delta":{"content":"hi \\ud83d"}}]}\n\n',
      'data: {"choices":[{"index":0,"delta":{"content":"\\ude00!"}}]}\n\n',
      delta({}, "stop"),
      DONE,
    ),
    { outcome: "answered", text: "hi 😀!" },
    "hi ",
    "😀!",
  ],
  [
    "half of a character at the end",
    events(
      'data: {"choices":[{"index":0,"delta":{"content":"hi \\ud83d"}}]}\n\n',
      delta({}, "stop"),
    ),
    { outcome: "answered", text: "hi \ufffd" },
    "hi ",
    "\ufffd",
  ],
  ["U+0000 in the text", events(delta({ content: "a\0b" }), delta({}, "stop")), {
    outcome: "answered",
    text: "a\ufffdb",
  }, "a\ufffdb"],
  [
    "a refusal",
    events(
      delta({ role: "assistant", content: "", refusal: null }),
      delta({ refusal: "I " }),
      delta({ refusal: "cannot." }),
      delta({}, "stop"),
    ),
    { outcome: "refused", refusal: "I cannot." },
    "I ",
    "cannot.",
  ],
  [
    "reasoning, then text",
    events(
      delta({ reasoning_content: "h" }),
      delta({ reasoning_content: "m", content: null }),
      delta({ content: "Hi" }),
      delta({}, "stop"),
    ),
    { outcome: "answered", text: "Hi", thought: "hm" },
    "Hi",
  ],
  [
    "parts in pieces",
    events(
      delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "h" }] }] }),
      delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "m" }] }] }),
      delta({ content: "He" }),
      delta({ content: [{ type: "text", text: "llo" }] }),
      delta({}, "stop"),
    ),
    { outcome: "answered", text: "Hello", thought: "hm" },
    "He",
    "llo",
  ],
  [
    "reasoning_details in pieces",
    events(
      delta({ reasoning_details: [{ type: "reasoning.text", index: 0, text: "h" }] }),
      delta({ reasoning_details: [{ type: "reasoning.text", index: 0, text: "m" }] }),
      delta({ reasoning_details: [{ type: "reasoning.text", index: 0, signature: "s" }] }),
      delta({ content: "Hi" }),
      delta({}, "stop"),
    ),
    { outcome: "answered", text: "Hi", thought: "hm" },
    "Hi",
  ],
  [
    "an error by its name",
    events(
      delta({ content: "a" }),
      'event: error\ndata: {"message":"x"}\n\n',
      DONE,
    ),
    { outcome: "failed", text: "a", finish: "error" },
    "a",
  ],
  ["an error in a chunk", events(delta({ content: "a" }), { error: "x" }), {
    outcome: "failed",
    text: "a",
  }, "a"],
  [
    "an error in a choice",
    events(
      delta({ content: "a" }),
      { choices: [{ index: 0, delta: {}, error: { code: 502 }, finish_reason: "error" }] },
    ),
    { outcome: "failed", text: "a" },
    "a",
  ],
  ["an error as the first event", events({ type: "error", error: { type: "overloaded" } }), {
    outcome: "failed",
  }],
  [
    "no more after the middle",
    events(delta({ content: "a" })),
    { outcome: "failed", text: "a" },
    "a",
  ],
  ["half a call", events(delta(calls(call({ index: 0, id: "a" }, "f", '{"q":')))), {
    outcome: "failed",
    calls: ['a f {"q":'],
  }],
  [
    "no space, CRLF, comments, no empty line at the end",
    `: hi\r\ndata:${JSON.stringify(delta({ content: "a" }))}\r\n\r\n` +
    `data:${JSON.stringify(delta({}, "stop"))}\r\n`,
    { outcome: "answered", text: "a" },
    "a",
  ],
  ["done, and nothing of how", events(delta({ content: "a" }), DONE), {
    outcome: "answered",
    text: "a",
    finish: "stop",
  }, "a"],
  ["what is no JSON", events(delta({ content: "a" }), "data: oops\n\n"), {
    outcome: "failed",
    text: "a",
  }, "a"],
  [
    "several answers at once",
    events(
      delta({ content: "a" }),
      delta({ content: "x" }, null, 1),
      delta({ content: "b" }),
      delta({}, "stop"),
      delta({}, "length", 1),
    ),
    { outcome: "answered", text: "ab", finish: "stop" },
    "a",
    "b",
  ],
  [
    "the last chunk repeats the message",
    events(
      delta({ content: "ab" }),
      { choices: [{ index: 0, message: { content: "ab" }, finish_reason: "stop" }] },
    ),
    { outcome: "answered", text: "ab" },
    "ab",
  ],
  [
    "Responses whose last event has no items",
    events(
      { type: "response.created", response: { object: "response", status: "in_progress" } },
      {
        type: "response.output_item.added",
        output_index: 0,
        item: { ...message("m", ""), content: [] },
      },
      { type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "a" },
      { type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "b" },
      { type: "response.output_item.done", output_index: 0, item: message("m", "ab") },
      {
        type: "response.completed",
        response: { object: "response", status: "completed", output: [] },
      },
    ),
    { outcome: "answered", text: "ab" },
    "a",
    "b",
  ],
  [
    "Responses, cut in the middle of a message",
    events(
      { type: "response.created", response: { object: "response", status: "in_progress" } },
      { type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "a" },
      { type: "response.output_text.delta", output_index: 0, content_index: 1, delta: "b" },
    ),
    { outcome: "failed", text: "a|b" },
    "a",
    "\n\n",
    "b",
  ],
  [
    "Responses, broken off by an error",
    events(
      { type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "a" },
      { type: "error", code: "server_error", message: "x" },
    ),
    { outcome: "failed", text: "a" },
    "a",
  ],
  [
    "Responses, cut in a call",
    events(
      { type: "response.created", response: { object: "response" } },
      {
        type: "response.output_item.added",
        output_index: 0,
        item: { type: "function_call", call_id: "c", name: "f", arguments: "" },
      },
      { type: "response.function_call_arguments.delta", output_index: 0, delta: '{"a"' },
    ),
    { outcome: "failed", calls: ['c f {"a"'] },
  ],
  [
    "Anthropic",
    events(
      {
        type: "message_start",
        message: { type: "message", content: [], usage: { input_tokens: 5 } },
      },
      { type: "content_block_start", index: 0, content_block: { type: "thinking", thinking: "" } },
      { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "hm" } },
      { type: "content_block_delta", index: 0, delta: { type: "signature_delta", signature: "s" } },
      { type: "ping" },
      { type: "content_block_start", index: 1, content_block: { type: "text", text: "" } },
      { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "a" } },
      {
        type: "content_block_start",
        index: 2,
        content_block: { type: "tool_use", id: "t", name: "f", input: {} },
      },
      {
        type: "content_block_delta",
        index: 2,
        delta: { type: "input_json_delta", partial_json: '{"n"' },
      },
      {
        type: "content_block_delta",
        index: 2,
        delta: { type: "input_json_delta", partial_json: ":1}" },
      },
      { type: "message_delta", delta: { stop_reason: "tool_use" }, usage: { output_tokens: 9 } },
      { type: "message_stop" },
    ),
    { outcome: "called", text: "a", thought: "hm", calls: ['t f {"n":1}'] },
    "a",
  ],
  [
    "Anthropic, overloaded in the middle",
    events(
      { type: "message_start", message: { type: "message", content: [] } },
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "a" } },
      { type: "error", error: { type: "overloaded_error" } },
    ),
    { outcome: "failed", text: "a" },
    "a",
  ],
];

for (const [name, text, wanted, ...pieces] of STREAMED) {
  Deno.test(`a streamed answer: ${name}`, async () => {
    const told: string[] = [];
    const onText = (piece: string) => void told.push(piece);
    expectSeen(await readBody(bodyOf(text), { isStream: true, onText }), wanted);
    assert.deepEqual(told, pieces);
  });
}

Deno.test("calls are run only of an answer that ended well", () => {
  const cut = readAnswer(said(calls(call({ id: "a" }, "f", "{}")), "length"));
  assert.deepEqual(cut.content.map(({ state }) => state), ["error"]);
  const whole = readAnswer(said(calls(call({ id: "a" }, "f", "{}")), "tool_calls"));
  assert.deepEqual(whole.content.map(({ state }) => state), ["pending"]);
});

Deno.test("what PostgreSQL cannot store is marked before a tool could run", () => {
  const given = [
    '{"q":"a\0b"}',
    '{"q":"\ud83d"}',
    '{"q":"a\\u0000b"}',
    "[".repeat(600) + "]".repeat(600),
  ];
  for (const text of given) {
    const { content } = readAnswer(said(calls(call({ id: "a" }, "f", text)), "tool_calls"));
    assert.equal(content[0]?.state, "error", text.slice(0, 20));
    const stored = JSON.stringify(content);
    assert.ok(!stored.includes('\\u0000"') && stored.isWellFormed(), text.slice(0, 20));
  }
  const name = readAnswer(said(calls(call({ id: "a" }, "f\0", "{}")), "tool_calls"));
  assert.equal(name.content[0]?.state, "error");
});

Deno.test("what nests too deep is kept as its text", () => {
  let deep: unknown = "end";
  for (let level = 0; level < 2_000; level++) deep = [deep];
  const { content } = readAnswer(said({ content: "a", odd: deep }));
  const kept = JSON.stringify(content.at(-1));
  assert.ok(kept.includes("end") && kept.length > 2_000);
  assert.ok(Math.max(...[...kept.matchAll(/\[+/g)].map(([run]) => run.length)) > 100);
  assert.equal(typeof at(content.at(-1)?.raw, 600), "string");
});

/** Goes inwards until something is neither an object nor a list. */
function at(value: unknown, room: number): unknown {
  if (room === 0 || typeof value !== "object" || value === null) return value;
  return at(Object.values(value)[0], room - 1);
}

Deno.test("what nests deeper than any stack is no answer, and no crash", async () => {
  const depth = 200_000;
  const text = `{"choices":[{"message":{"content":"a","odd":${"[".repeat(depth)}${
    "]".repeat(depth)
  }}}]}`;
  const answer = await readBody(bodyOf(text), { isStream: false });
  assert.equal(answer.outcome, "failed");
  const stream = await readBody(bodyOf(`data: ${text}\n\n`), { isStream: true });
  assert.equal(stream.outcome, "failed");
});

Deno.test("an answer without end is ended, and kept as far as it came", async () => {
  const piece = new TextEncoder().encode(events(delta({ content: "x".repeat(100_000) })));
  const endless = ReadableStream.from((function* () {
    for (;;) yield piece;
  })());
  const answer = await readBody(endless, { isStream: true });
  assert.deepEqual([answer.outcome, answer.failure], ["failed", "too_large"]);
  const { length } = String(answer.content[0]?.text);
  assert.ok(length > 1_000_000 && length < 9_000_000, `${length}`);
});

Deno.test("a stream that a server does not call one is read as one", async () => {
  const text = events(delta({ content: "a" }), delta({}, "stop"), DONE);
  expectSeen(await readBody(bodyOf(text), { isStream: false }), { outcome: "answered", text: "a" });
});

Deno.test("usage is counted under the names of all providers, and nonsense is none", () => {
  const usage = (given: unknown) => readAnswer({ ...said({ content: "a" }), usage: given }).usage;
  assert.deepEqual(usage({ prompt_tokens: 2, completion_tokens: 3 }), {
    input_tokens: 2,
    output_tokens: 3,
  });
  assert.deepEqual(
    usage({ input_tokens: 2, output_tokens: 3, output_tokens_details: { reasoning_tokens: 1 } }),
    { input_tokens: 2, output_tokens: 3, reasoning_tokens: 1 },
  );
  for (const odd of [null, "x", { prompt_tokens: -1, completion_tokens: 1.5 }]) {
    assert.deepEqual(usage(odd), { input_tokens: 0, output_tokens: 0 });
  }
});
