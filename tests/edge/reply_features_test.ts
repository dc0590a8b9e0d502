import assert from "node:assert/strict";
import { calculate, CalculatorError } from "../../supabase/functions/chat/features/calculator.ts";
import { compress, countTokens } from "../../supabase/functions/chat/features/compression.ts";
import { newestFitting, readTurn } from "../../supabase/functions/chat/features/history.ts";
import { factIn } from "../../supabase/functions/chat/features/memory.ts";
import { runTools } from "../../supabase/functions/chat/features/toolbox.ts";
import {
  type Model,
  type ModelRequest,
  saying,
  type Turn,
  wordsOf,
} from "../../supabase/functions/chat/model/model.ts";
import { CHAT, makeChat, newMessage, tell } from "./chat_fixture.ts";
import { FakeFeatures } from "./fake_features.ts";
import { answering, calling } from "./model_fixture.ts";

const LIVE = { stage: "live" };
const on = (...names: string[]) => ({
  flags: names.map((name) => ({ name, default_value: true })),
});
const ALL = [
  "enable_memory_system",
  "enable_state_management",
  "use_new_tool_framework",
  "enable_caching",
  "enable_parallel_tools",
  "enable_context_compression",
];

Deno.test("calculate() knows the rules of arithmetic", () => {
  const cases: readonly [string, number][] = [
    ["1+2*3", 7],
    ["(1+2)*3", 9],
    ["-2*-3", 6],
    ["10/4/5", 0.5],
    [" 7 - 2 - 1 ", 4],
    [".5+0.25", 0.75],
    ["--3", 3],
  ];
  for (const [text, value] of cases) assert.equal(calculate(text), value, text);
});

Deno.test("calculate() refuses whatever is no arithmetic", () => {
  const wrong = [
    "",
    "1+",
    "(1",
    "1)",
    "a",
    "1/0",
    "1 2",
    "2**3",
    "process.exit()",
    "[].x",
    "1e999",
  ];
  for (const text of [...wrong, "(".repeat(300)]) {
    assert.throws(() => calculate(text), CalculatorError, text);
  }
});

Deno.test("factIn() keeps only what it was asked to keep", () => {
  assert.equal(factIn("Remember that I like tea."), "I like tea.");
  assert.equal(factIn("please remember: blue"), "blue");
  assert.equal(factIn("I remember that you like tea"), undefined);
  assert.equal(factIn("remember that "), undefined);
  assert.equal(factIn(`remember ${"x".repeat(501)}`), undefined);
  assert.equal(factIn(`remember ${"😊".repeat(500)}`)?.length, 1000);
});

function talk(count: number, words = 20): Turn[] {
  return Array.from({ length: count }, (_, n) => ({
    ...saying(
      n % 2 === 0 ? "user" : "assistant",
      `Part ${n} ends here. ${"more ".repeat(words)}`,
    ),
    id: `m${n}`,
  }));
}

Deno.test("compress() leaves alone what fits", () => {
  const turns = talk(4);
  assert.deepEqual(compress(turns, 10_000, undefined), { turns, left: 0 });
});

Deno.test("compress() keeps to the budget, the newest turns whole, and sums up the others", () => {
  const budget = 200;
  const { turns, summary, left } = compress(talk(30), budget, undefined);
  const total = turns.reduce((sum, turn) => sum + countTokens(wordsOf(turn)), 0);
  assert.ok(total <= budget * 1.1, `${total}`);
  assert.deepEqual(turns.at(-1), talk(30).at(-1));
  assert.equal(left, 31 - turns.length);
  assert.equal(summary?.coveredTo, `m${left - 1}`);
  assert.ok(wordsOf(turns[0] as Turn).includes(`Part ${left - 1} ends here.`));
});

Deno.test("compress() adds to a known summary only what is new", () => {
  const first = compress(talk(10), 200, undefined).summary;
  const second = compress(talk(12), 200, first).summary;
  const parts = [...(second?.text ?? "").matchAll(/Part (\d+) ends/g)].map(([, n]) => Number(n));
  assert.deepEqual(parts, [...new Set(parts)].toSorted((a, b) => a - b));
  assert.ok(parts.length > 0);
});

Deno.test("compress() cuts no tool result from its call", () => {
  const result = { type: "tool_result", tool_call_id: "c", output: "now", is_error: false };
  const asked = [{ type: "text", text: "x".repeat(600) }, calling("c", "clock")];
  const turns: Turn[] = [
    ...talk(20),
    { role: "assistant", content: asked, id: "call" },
    { role: "tool", content: [result], id: "result" },
    { ...saying("user", "and?"), id: "last" },
  ];
  const { turns: kept } = compress(turns, 200, undefined);
  assert.deepEqual(kept.filter((turn) => turn.role === "tool"), []);
});

Deno.test("compress() keeps a last turn that is larger than the budget", () => {
  const turns: Turn[] = [...talk(3), { ...saying("user", "x".repeat(10_000)), id: "last" }];
  assert.equal(compress(turns, 100, undefined).turns.at(-1)?.id, "last");
});

Deno.test("newestFitting() keeps the last turn and what fits before it", () => {
  const turn = (length: number): Turn => saying("user", "x".repeat(length));
  assert.deepEqual(newestFitting([]), []);
  assert.equal(newestFitting([turn(1), turn(2_000_000)]).length, 1);
  assert.equal(newestFitting([turn(1), turn(600_000), turn(400_000)]).length, 2);
  assert.equal(newestFitting([turn(1), turn(2)]).length, 2);
});

Deno.test("readTurn() keeps every block, and wordsOf() tells what V1 would", () => {
  const content = [
    { type: "text", text: "a" },
    { type: "unknown", raw: 1 },
    { type: "refusal", text: "b" },
    calling("c", "f"),
  ];
  const turn = readTurn({ id: "m", role: "assistant", content: [...content, "no block"] });
  assert.deepEqual(turn, { role: "assistant", content, id: "m" });
  assert.equal(wordsOf(turn), "a\n\nb");
  const output = { deep: [1] };
  const results = ["c", "d"].map((tool_call_id) => ({ type: "tool_result", tool_call_id, output }));
  assert.equal(wordsOf({ role: "tool", content: results }), '{"deep":[1]}\n\n{"deep":[1]}');
});

Deno.test("what a tool cut in half can be stored", async () => {
  const features = new FakeFeatures();
  const content = `${"x".repeat(299)}😊`;
  features.search = () => Promise.resolve([{ id: "1", role: "user", content, created_at: "" }]);
  const context = { features, backend: 2, now: () => new Date(0) } as const;
  const call = calling("c", "search_messages", '{"query":"x"}');
  const [outcome] = await runTools([call], context, { parallel: false });
  assert.ok(JSON.stringify(outcome?.result.output).isWellFormed());
  assert.ok(JSON.stringify(outcome?.result.output).includes("\ufffd"));
});

Deno.test("tools run at once only when they may", async () => {
  for (const parallel of [true, false]) {
    const features = new FakeFeatures();
    let running = 0;
    let most = 0;
    features.search = async () => {
      most = Math.max(most, ++running);
      await new Promise((go) => setTimeout(go, 1));
      running--;
      return [];
    };
    const call = calling("c", "search_messages", '{"query":"x"}');
    const context = { features, backend: 2, now: () => new Date(0) } as const;
    await runTools([call, call, call], context, { parallel });
    assert.equal(most, parallel ? 3 : 1);
  }
});

Deno.test("a tool's failure tells the model nothing of our insides", async () => {
  const features = new FakeFeatures();
  features.failure = new Error("password=hunter2");
  const call = calling("c", "search_messages", '{"query":"x"}');
  const context = { features, backend: 2, now: () => new Date(0) } as const;
  const [outcome] = await runTools([call], context, { parallel: false });
  assert.deepEqual([outcome?.result.is_error, outcome?.result.output], [true, "The tool failed"]);
});

Deno.test("the clock knows time zones and refuses what is none", async () => {
  const ask = async (zone: string) => {
    const call = calling("c", "clock", JSON.stringify({ time_zone: zone }));
    const now = () => new Date("2026-07-01T12:00:00Z");
    const context = { features: new FakeFeatures(), backend: 2, now } as const;
    return (await runTools([call], context, { parallel: false }))[0];
  };
  assert.deepEqual((await ask("Europe/Warsaw"))?.result.output, {
    utc: "2026-07-01T12:00:00.000Z",
    local: "2026-07-01 14:00:00",
    time_zone: "Europe/Warsaw",
  });
  assert.equal((await ask("Mars/Olympus"))?.result.is_error, true);
});

Deno.test("a reply goes on without the features whose tables do not answer", async () => {
  const chat = makeChat(LIVE, on(...ALL));
  chat.features.failure = new Error("no such table");
  await tell(chat, { path: "/messages", body: newMessage(1, "remember that I like tea") });
  const told = await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
  assert.equal(told.status, 201);
  assert.equal(told.body.content, "You said: remember that I like tea");
  assert.ok(chat.logged.some((line) => line.includes("memory")));
});

Deno.test("a model that never stops calling tools must end in words", async () => {
  const asked: ModelRequest[] = [];
  const model: Model = (request) => {
    asked.push(request);
    const calls = request.tools.length === 0 ? [] : [calling(`c${asked.length}`, "clock")];
    return Promise.resolve(answering("so", calls));
  };
  const chat = makeChat(LIVE, on("use_new_tool_framework"), { model });
  await tell(chat, { path: "/messages", body: newMessage(1) });
  const told = await tell(chat, { path: "/v2/reply", body: { chat_id: CHAT } });
  assert.equal(told.status, 201);
  assert.equal(asked.length, 4);
  assert.deepEqual(told.body.usage, { input_tokens: 4, output_tokens: 4, total_tokens: 8 });
});

Deno.test("features that are off cost no call of their tables", async () => {
  const chat = makeChat(LIVE);
  await tell(chat, { path: "/messages", body: newMessage(1) });
  await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
  assert.deepEqual(chat.features.calls, []);
  assert.deepEqual(chat.store.calls, ["insert 2", "list 2", "insert 2"]);
});

// Migration flags ------------------------------------------------------------------------------

Deno.test("V1 clients are turned away only by a row that says so", async () => {
  const path = `/messages?chat_id=${CHAT}`;
  const off = { name: "enable_compatibility_mode", default_value: false };
  const gone = await tell(makeChat(LIVE, { flags: [off] }), { path });
  assert.deepEqual([gone.status, gone.body.code], [410, "VERSION_RETIRED"]);
  const v2 = await tell(makeChat(LIVE, { flags: [off] }), { path: `/v2${path}` });
  assert.equal(v2.status, 200);
  // No row, an emergency: V1 is served. A database that was never read: nobody is told to go.
  const emergency = {
    name: "emergency_rollback",
    engaged: true,
    overrides_all: true,
    fences: true,
  };
  const on = { ...off, default_value: true };
  for (
    const chat of [makeChat(LIVE), makeChat(LIVE, { flags: [on], kill_switches: [emergency] })]
  ) {
    assert.equal((await tell(chat, { path })).status, 200);
  }
  const unread = makeChat(LIVE, { flags: [off] });
  unread.database.failure = new Error("away");
  assert.equal((await tell(unread, { path })).status, 503);
  const told = makeChat(LIVE, {}, { compatibilityOff: true });
  told.database.failure = new Error("away");
  assert.equal((await tell(told, { path })).status, 410);
});

Deno.test("the end of V1 comes from settings, else from the environment", async () => {
  const path = `/messages?chat_id=${CHAT}`;
  const settings = {
    chat_v1_deprecated_at: "2026-01-01",
    chat_v1_sunset_at: "2026-12-31T23:59:59Z",
    chat_v1_deprecation_link: "https://docs.example.com/v1",
  };
  const { headers } = await tell(makeChat(LIVE, { settings }), { path });
  assert.equal(headers.get("deprecation"), "@1767225600");
  assert.equal(headers.get("sunset"), "Thu, 31 Dec 2026 23:59:59 GMT");
  const links = headers.get("link") ?? "";
  assert.ok(links.includes('<https://docs.example.com/v1>; rel="deprecation"'));
  assert.ok(links.includes('<https://docs.example.com/v1>; rel="sunset"'));
  assert.ok(links.includes('</functions/v1/chat/v2/messages>; rel="successor-version"'));
  const second = await tell(makeChat(LIVE, { settings }), { path: `/v2${path}` });
  assert.equal(second.headers.get("deprecation"), null);
  assert.equal(second.headers.get("link"), null);
  const error = await tell(makeChat(LIVE, { settings }), { path: `/messages/${CHAT}` });
  assert.equal(error.headers.get("deprecation"), "@1767225600");
  const given = { deprecation: { deprecatedAt: 1 } };
  const base = await tell(makeChat(LIVE, {}, given), { path });
  assert.equal(base.headers.get("deprecation"), "@1");
});

Deno.test("a setting that cannot be read is left out and logged, and fails no request", async () => {
  const path = `/messages?chat_id=${CHAT}`;
  const wrong: readonly Record<string, unknown>[] = [
    { chat_v1_deprecated_at: "soon" },
    { chat_v1_deprecated_at: "2026-06-01", chat_v1_sunset_at: "2026-01-01" },
    { chat_v1_deprecation_link: 'javascript:alert(1)>; rel="x' },
  ];
  for (const [place, settings] of wrong.entries()) {
    const chat = makeChat(LIVE, { settings });
    const { status, headers } = await tell(chat, { path });
    assert.equal(status, 200);
    assert.equal(headers.get("sunset"), null);
    const successor = '</functions/v1/chat/v2/messages>; rel="successor-version"';
    assert.equal(headers.get("link"), place === 1 ? successor : null);
    assert.equal(headers.get("deprecation"), place === 1 ? "@1780272000" : null);
    if (place < 2) assert.equal(chat.logged.length, 1);
  }
});
