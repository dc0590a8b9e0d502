/** Conversations in the words of each provider: their order, and nothing that it would refuse. */

import assert from "node:assert/strict";
import { anthropic } from "../../supabase/functions/chat/formats/anthropic.ts";
import {
  exportConversation,
  ExportError,
  type ExportOptions,
} from "../../supabase/functions/chat/formats/export.ts";
import { put, type ToolFormat } from "../../supabase/functions/chat/formats/format.ts";
import { namesOf } from "../../supabase/functions/chat/formats/formats.ts";
import { legacy } from "../../supabase/functions/chat/formats/legacy.ts";
import { openaiChat } from "../../supabase/functions/chat/formats/openai_chat.ts";
import { openaiResponses } from "../../supabase/functions/chat/formats/openai_responses.ts";
import { readAnswer } from "../../supabase/functions/chat/formats/read_answer.ts";
import { Rows } from "./message_rows.ts";
import { refusals } from "./provider_rules.ts";

type Row = Record<string, unknown>;

const FORMATS = [openaiChat, openaiResponses, anthropic];

const text = (words: string): Row => ({ type: "text", text: words });
const call = (id: string, name = "f", input: unknown = {}): Row => ({
  ...{ type: "tool_call", tool_call_id: id, name, input, state: "complete" },
});
const result = (id: string, output: unknown = `r${id}`): Row => ({
  ...{ type: "tool_result", tool_call_id: id, output, is_error: false },
});
const user = (...content: Row[]): Row => ({ role: "user", content });
const assistant = (...content: Row[]): Row => ({ role: "assistant", content });
const tool = (...content: Row[]): Row => ({ role: "tool", content });

function exported(
  format: ToolFormat,
  messages: readonly Row[],
  options: Partial<ExportOptions> = {},
) {
  const names = namesOf([], messages.flatMap(({ content }) => content as Row[]));
  return exportConversation(format, messages, { names, ...options });
}

/** What a provider is sent, one word for each part, in order. */
function outline(format: ToolFormat, messages: readonly Row[], options = {}): string {
  const { messages: sent, system } = exported(format, messages, options);
  assert.deepEqual(refusals(format.id, sent as Row[]), [], JSON.stringify(sent));
  const parts = [...system, ...sent].flatMap((message): unknown[] => {
    const { role, content, tool_calls, type } = message as Row;
    if (role === "tool") return [`<${message.tool_call_id}`];
    const list = Array.isArray(content)
      ? content
      : content == null
      ? [message]
      : [text(String(content))];
    return [
      ...(type === undefined || type === "message" ? list : [message]),
      ...(tool_calls as Row[] ?? []),
    ];
  }) as Row[];
  return parts.map((part) => {
    if (typeof part === "string") return part;
    const { type, id, call_id, tool_use_id, output } = part;
    if (typeof part.text === "string") return part.text;
    if (type === "tool_result" || output !== undefined) return `<${tool_use_id ?? call_id}`;
    if (type === "function" || type === "tool_use") return `>${id}`;
    return type === "function_call" ? `>${call_id}` : type;
  }).filter((word) => word !== undefined).join(" ");
}

const E1 = [
  user(text("q")),
  assistant(
    ...[text("first"), call("a"), result("a"), text("then"), call("b"), result("b"), text("FINAL")],
  ),
];

for (const format of FORMATS) {
  Deno.test(`E1 ${format.id}: several steps in one message keep their order`, () => {
    assert.equal(outline(format, E1), "q first >a <a then >b <b FINAL");
  });

  Deno.test(`${format.id}: results that are late, together, or of the same id again`, () => {
    const turns = [
      user(text("hi")),
      assistant(call("a"), call("b"), call("lost")),
      user(text("well?")),
      tool(result("b"), result("a")),
      tool(result("nobody")),
      assistant(text("again"), call("a")),
      tool(result("a", "A2")),
    ];
    const frozen = JSON.stringify(turns);
    assert.equal(
      outline(format, turns),
      "hi >a >b >lost <a <b <lost well? >nobody <nobody again >a_2 <a_2",
    );
    assert.equal(
      outline(format, turns, { orphans: "drop" }),
      "hi >a >b <a <b well? again >a_2 <a_2",
    );
    assert.equal(JSON.stringify(turns), frozen);
    assert.equal(exported(format, turns).idOf("a_2"), "a");
    const { omitted } = exported(format, turns, { orphans: "drop" });
    assert.deepEqual(omitted.map(({ reason }) => reason), [
      "call_without_result",
      "result_without_call",
    ]);
    assert.throws(() => exported(format, turns, { orphans: "refuse" }), ExportError);
  });

  Deno.test(`${format.id}: a call that was cut says so itself`, () => {
    const error = "The answer ended before the call could be run";
    const cut = { ...call("a"), input: null, arguments_raw: '{"q":', state: "error", error };
    const { messages } = exported(format, [user(text("q")), assistant(cut), user(text("go on"))]);
    assert.ok(JSON.stringify(messages).includes(error));
  });

  Deno.test(`${format.id}: a refusal is told, an empty message is not`, () => {
    const no = { type: "refusal", text: "I cannot." };
    const turns = [
      user(text("q")),
      assistant(no),
      assistant(text("")),
      assistant(),
      user(text("x")),
    ];
    const words = format === openaiResponses ? "q refusal  x" : "q I cannot. x";
    assert.equal(outline(format, turns), words);
  });
}

Deno.test("a result answers the last call of its id that has no answer yet", () => {
  const turns = [assistant(call("a", "first")), assistant(call("a", "second")), tool(result("a"))];
  const sent = exported(openaiChat, turns, { orphans: "drop" }).messages as Row[];
  assert.deepEqual(sent.flatMap(({ tool_calls }) => tool_calls ?? []), [
    { id: "a", type: "function", function: { name: "second", arguments: "{}" } },
  ]);
});

const SERVER_TOOL = [
  user(text("q")),
  assistant(
    put(anthropic, "call", {
      ...{ type: "server_tool_use", id: "srv1", name: "web_search", input: { query: "x" } },
    }),
    put(anthropic, "result", {
      type: "web_search_tool_result",
      tool_use_id: "srv1",
      content: [{ type: "web_search_result", url: "u", title: "t", encrypted_content: "e" }],
    }),
    text("answer"),
  ),
];

Deno.test("E4 a tool that Anthropic ran stays where it was, and goes to nobody else", () => {
  const [, said] = exported(anthropic, SERVER_TOOL).messages as Row[];
  assert.deepEqual((said?.content as Row[]).map(({ type }) => type), [
    "server_tool_use",
    "web_search_tool_result",
    "text",
  ]);
  for (const format of [openaiChat, openaiResponses]) {
    assert.equal(outline(format, SERVER_TOOL), "q answer");
    const { omitted } = exported(format, SERVER_TOOL);
    assert.deepEqual(omitted.map(({ reason }) => reason), ["other_provider", "other_provider"]);
    assert.throws(() => exported(format, SERVER_TOOL, { loss: "refuse" }), /other_provider/);
  }
});

Deno.test("E5 reasoning of Responses goes with its call, by their ids", () => {
  const item = { type: "function_call", id: "fc_1", call_id: "c1", name: "f", arguments: "{}" };
  const reasoning = { type: "reasoning", id: "rs_1", encrypted: "ENC" };
  const turns = [
    user(text("q")),
    assistant(reasoning, put(openaiResponses, "call", item)),
    tool(result("c1")),
  ];
  assert.deepEqual(exported(openaiResponses, turns).messages.slice(1), [
    { id: "rs_1", type: "reasoning", summary: [], encrypted_content: "ENC" },
    item,
    { type: "function_call_output", call_id: "c1", output: "rc1" },
  ]);
  // Without the reasoning the provider must not be reminded of it.
  const edited = { ...reasoning, extras: { stale: true } };
  const cut = exported(openaiResponses, [assistant(edited, put(openaiResponses, "call", item))]);
  assert.deepEqual(cut.omitted.map(({ reason }) => reason), ["edited_reasoning"]);
  assert.equal(Object.hasOwn(cut.messages[0] ?? {}, "id"), false);
  // Nor is reasoning sent with nothing behind it.
  const lonely = exported(openaiResponses, [user(text("q")), assistant(reasoning)]);
  assert.deepEqual(lonely.messages.length, 1);
  assert.deepEqual(lonely.omitted[0]?.reason, "reasoning_without_what_followed");
});

Deno.test("E6 a search of Responses goes back as it was, and to nobody else", () => {
  const search = {
    type: "web_search_call",
    id: "ws_1",
    status: "completed",
    action: { query: "x" },
  };
  const turns = [user(text("q")), assistant(put(openaiResponses, "call", search), text("found"))];
  assert.deepEqual(exported(openaiResponses, turns).messages[1], search);
  for (const format of [openaiChat, anthropic]) assert.equal(outline(format, turns), "q found");
});

Deno.test("E8 reasoning goes to the provider that made it, and to no other", () => {
  const openai = { type: "reasoning", id: "rs_1", encrypted: "gAAAA-openai" };
  const claude = { type: "reasoning", text: "hm", signature: "EqQB/+==" };
  const redacted = { type: "reasoning", encrypted: "d", redacted: true, provider: "anthropic" };
  const turns = [user(text("q")), assistant(openai, claude, redacted, text("hi"))];
  const [, said] = exported(anthropic, turns).messages as Row[];
  assert.deepEqual(said?.content, [
    { type: "thinking", thinking: "hm", signature: "EqQB/+==" },
    { type: "redacted_thinking", data: "d" },
    { type: "text", text: "hi" },
  ]);
  assert.deepEqual(exported(openaiResponses, turns).messages.map(({ type }) => type), [
    "message",
    "reasoning",
    "message",
  ]);
  assert.equal(outline(openaiChat, turns), "q hi");
});

Deno.test("reasoning of Chat Completions goes back while its turn goes on", () => {
  const { content } = readAnswer({
    choices: [{
      message: {
        content: "Let me see.",
        reasoning: "hm",
        reasoning_details: [{ type: "reasoning.text", text: "hm", signature: "s" }],
        tool_calls: [{ id: "a", type: "function", function: { name: "f", arguments: "{}" } }],
      },
      finish_reason: "tool_calls",
    }],
  });
  const turns = [user(text("q")), assistant(...content as Row[]), tool(result("a"))];
  const [, said] = exported(openaiChat, turns).messages;
  assert.deepEqual([said?.reasoning, (said?.reasoning_details as Row[]).length], ["hm", 1]);
  const later = exported(openaiChat, [...turns, assistant(text("done")), user(text("thanks"))]);
  assert.equal(Object.hasOwn(later.messages[1] ?? {}, "reasoning"), false);
  assert.deepEqual(later.omitted.map(({ reason }) => reason), ["reasoning_of_earlier_turn"]);
});

Deno.test("reasoning that was a part of the content goes back as one", () => {
  const thinking = { type: "thinking", thinking: [{ type: "text", text: "hm" }] };
  const { content } = readAnswer({
    choices: [{
      message: {
        content: [thinking, { type: "text", text: "Hi" }],
        tool_calls: [{ id: "a", type: "function", function: { name: "f", arguments: "{}" } }],
      },
      finish_reason: "tool_calls",
    }],
  });
  const turns = [user(text("q")), assistant(...content as Row[]), tool(result("a"))];
  const [, said] = exported(openaiChat, turns).messages;
  assert.deepEqual(said?.content, [thinking, text("Hi")]);
  assert.equal(Object.hasOwn(said ?? {}, "type"), false);
});

Deno.test("E14 ids become what each provider allows, and can be told from each other", () => {
  const long = `call:${"z".repeat(70)}/ü`;
  const ids = [long, `${long}x`, "call_1", "call.1", "", "call_1", ""];
  const turns = [user(text("q")), ...ids.flatMap((id) => [assistant(call(id)), tool(result(id))])];
  for (const format of FORMATS) {
    const { messages, idOf } = exported(format, turns);
    assert.deepEqual(refusals(format.id, messages as Row[]), []);
    const key = format === openaiResponses ? "call_id" : "id";
    const wire = (messages as Row[])
      .flatMap((
        m,
      ) => [m, ...(m.tool_calls as Row[] ?? []), ...(Array.isArray(m.content) ? m.content : [])])
      .filter(({ type }) => ["function", "function_call", "tool_use"].includes(String(type)))
      .map((m) => String(m[key]));
    assert.equal(new Set(wire).size, ids.length);
    assert.deepEqual(wire.map(idOf), ids.map((id) => id || "call"));
  }
});

const PNG = { type: "image", source: { kind: "base64", data: "AA==" }, media_type: "image/png" };
const JPG = { type: "image", source: { kind: "url", url: "https://x.example/a.jpg" } };
const PDF = { ...PNG, type: "file", media_type: "application/pdf", filename: "a.pdf" };

Deno.test("images are shown by the user and in results, in the words of each provider", () => {
  const shown = { ...result("a"), output: "see", content: [text("see"), PNG] };
  const turns = [user(text("what?"), JPG, PDF), assistant(call("a")), tool(shown)];
  const chat = exported(openaiChat, turns).messages as Row[];
  assert.deepEqual(refusals("openai_chat", chat), []);
  assert.deepEqual(chat[0]?.content, [
    text("what?"),
    { type: "image_url", image_url: { url: "https://x.example/a.jpg" } },
    { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" } },
  ]);
  assert.deepEqual(chat.slice(2), [
    { role: "tool", tool_call_id: "a", content: [text("see"), text("[image]")] },
    {
      role: "user",
      content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AA==" } }],
    },
  ]);
  const items = exported(openaiResponses, turns).messages as Row[];
  assert.deepEqual(refusals("openai_responses", items), []);
  assert.deepEqual(items.at(-1)?.output, [
    { type: "input_text", text: "see" },
    { type: "input_image", image_url: "data:image/png;base64,AA==" },
  ]);
  const messages = exported(anthropic, turns).messages as Row[];
  assert.deepEqual(refusals("anthropic", messages), []);
  const source = { type: "base64", media_type: "image/png", data: "AA==" };
  assert.deepEqual((messages[2]?.content as Row[])[0]?.content, [
    text("see"),
    { type: "image", source },
  ]);
  for (const format of FORMATS) assert.deepEqual(exported(format, turns).omitted, []);
});

Deno.test("an image in a result is read in one provider's words and shown in another's", () => {
  const raw = {
    type: "tool_result",
    tool_use_id: "a",
    content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "AA==" } }],
  };
  const turns = [user(text("q")), assistant(call("a")), tool(put(anthropic, "result", raw))];
  const items = exported(openaiResponses, turns).messages;
  assert.deepEqual(items.at(-1)?.output, [
    { type: "input_image", image_url: "data:image/png;base64,AA==" },
  ]);
});

Deno.test("bytes that only their keeper has are left out by name", () => {
  const kept = { type: "image", source: { kind: "storage", bucket: "b", path: "p" } };
  const theirs = { ...kept, source: { kind: "file_id", file_id: "f" }, extras: { provider: "x" } };
  for (const format of FORMATS) {
    const { omitted, messages } = exported(format, [user(text("q"), kept, theirs)]);
    assert.deepEqual(omitted.map(({ reason }) => reason), ["no_words", "no_words"]);
    assert.equal(messages.length, 1);
  }
});

Deno.test("several texts keep their borders, or become one string for servers that want one", () => {
  const turns = [user(text("q")), assistant(text("a"), text("b"))];
  assert.deepEqual(exported(openaiChat, turns).messages[1]?.content, [text("a"), text("b")]);
  assert.equal(exported(openaiChat, turns, { joinTexts: true }).messages[1]?.content, "a\n\nb");
});

Deno.test("to Anthropic the system speaks apart, and each side once at a time", () => {
  const turns = [
    { role: "system", content: [text("Be brief.")] },
    user(text("a")),
    user(text("b")),
    assistant(call("x"), call("y")),
    tool(result("x")),
    tool(result("y")),
    user(text("c")),
  ];
  const { messages, system } = exported(anthropic, turns);
  assert.deepEqual(system, [text("Be brief.")]);
  assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant", "user"]);
  assert.deepEqual(refusals("anthropic", messages as Row[]), []);
});

Deno.test("tools are called by their aliases", () => {
  const turns = [user(text("q")), assistant(call("a", "weather.now")), tool(result("a"))];
  for (const format of FORMATS) {
    const sent = JSON.stringify(exported(format, turns).messages);
    assert.ok(sent.includes("weather__now") && !sent.includes("weather.now"));
  }
  assert.throws(() => exported(legacy, turns), TypeError);
});

const CASES = Number(Deno.env.get("CROSSFADE_CASES") ?? 10_000) / 5;
const SEED = Number(Deno.env.get("CROSSFADE_SEED") ?? Math.floor(Math.random() * 2 ** 31));

/** Draws a conversation with all that may go wrong in one. */
function conversation(rows: Rows): Row[] {
  const id = () => rows.pick(["a", "b", "c", "", "x:y", "z".repeat(90)]);
  const block = (): Row =>
    rows.pick<() => Row>([
      () => text(rows.pick(["hi", "", " ", "more"])),
      () => call(id(), rows.pick(["f", "a.b", "g"]), rows.pick<unknown>([{}, { q: 1 }, null])),
      () => result(id()),
      () => ({ ...result(id()), content: [text("x"), rows.pick([PNG, JPG])] }),
      () => ({ type: "reasoning", text: "hm", signature: rows.pick(["s", ""]) }),
      () => ({ type: "reasoning", id: "rs_1", encrypted: "E", provider: "openai_responses" }),
      () => ({ type: "reasoning", text: "hm", provider: "openai_chat" }),
      () => ({ type: "refusal", text: "no" }),
      () => rows.pick([PNG, JPG, PDF]),
      () => ({
        type: "unknown",
        raw: { type: "odd" },
        extras: { provider: rows.pick(["anthropic", "x"]) },
      }),
      () => ({ type: "data", name: "n", data: [1] }),
      () => SERVER_TOOL[1]?.content instanceof Array ? SERVER_TOOL[1].content[0] as Row : text("x"),
    ])();
  const roles = ["user", "assistant", "assistant", "tool", "system", "developer"];
  return [
    user(text("q")),
    ...rows.list(7, () => {
      const role = rows.pick(roles);
      const isSpoken = role === "user" || role === "system" || role === "developer";
      return {
        role,
        content: rows.list(5, () => isSpoken ? text(rows.pick(["hi", "ho"])) : block()),
      };
    }),
  ];
}

Deno.test(`no provider is sent what it refuses, for ${CASES} conversations`, () => {
  for (let place = 0; place < CASES; place++) {
    // A copy of each block: one that stands twice is two.
    const turns: Row[] = JSON.parse(JSON.stringify(conversation(new Rows(SEED + place))));
    for (const format of FORMATS) {
      for (const orphans of ["synthesize", "drop"] as const) {
        const { messages, omitted } = exported(format, turns, { orphans });
        const what = `CROSSFADE_SEED=${SEED + place} ${format.id} ${orphans}`;
        assert.deepEqual(
          refusals(format.id, messages as Row[]),
          [],
          `${what} ${JSON.stringify(messages)}`,
        );
        // Whatever is not sent is named, once.
        const named = omitted.map((omission) => omission.block);
        assert.equal(new Set(named).size, named.length, what);
      }
    }
  }
});
