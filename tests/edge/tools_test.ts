import assert from "node:assert/strict";
import { ToolCompatibilityWrapper } from "../../supabase/functions/chat/adapters/compatibility_layer.ts";
import { exportTools, namesOf } from "../../supabase/functions/chat/formats/formats.ts";
import { importTools, TOOL_FORMATS } from "./tool_formats.ts";
import { anthropic } from "../../supabase/functions/chat/formats/anthropic.ts";
import { put, show } from "../../supabase/functions/chat/formats/format.ts";
import { legacy } from "../../supabase/functions/chat/formats/legacy.ts";
import { ToolNames } from "../../supabase/functions/chat/formats/names.ts";
import { newFormat } from "../../supabase/functions/chat/formats/new.ts";
import { openaiChat } from "../../supabase/functions/chat/formats/openai_chat.ts";
import { openaiResponses } from "../../supabase/functions/chat/formats/openai_responses.ts";
import { Rows } from "./message_rows.ts";
import { readVectors } from "./vectors.ts";

type Row = Record<string, unknown>;

const WEATHER = {
  name: "weather.now",
  title: "Weather",
  description: "Tells the weather",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer", default: 1 } },
    required: ["city"],
  },
  output_schema: { type: "object" },
  annotations: { read_only: true },
  version: "3",
  extras: { owner: "team" },
};

/** Every form in which a tool may arrive; each must come back to the byte. */
const RAW_TOOLS: readonly [string, (typeof TOOL_FORMATS)[number], Row][] = [
  ["one entry per parameter", legacy, {
    name: "f",
    description: "d",
    parameters: { a: { type: "str", required: true, enum: ["x"] }, b: { type: "float" } },
  }],
  ["parameters named like words of JSON Schema", legacy, {
    name: "f",
    parameters: {
      type: { type: "string", required: true },
      properties: { type: "dict", required: false },
      __proto__x: { type: "any", required: true },
    },
  }],
  ["an entry with a list of its own required keys", legacy, {
    name: "f",
    parameters: {
      a: { type: "dict", properties: { x: { type: "int" } }, required: ["x"] },
    },
  }],
  ["an entry of functions, with old types", legacy, {
    name: "f",
    description: "",
    parameters: {
      type: "dict",
      required: ["a"],
      properties: {
        a: { type: "tuple", items: { type: "any" } },
        b: { type: "HashMap", "x-legacy-type": "mine" },
        c: { type: ["String", "null"] },
        d: { type: "" },
      },
    },
  }],
  ["no parameters", legacy, { name: "f" }],
  ["unknown keys and order", legacy, { description: "d", name: "f", since: 1, parameters: {} }],
  ["a wrong shape", legacy, { name: 5, parameters: [1] }],
  ["the new form", newFormat, WEATHER],
  ...[undefined, null, true, false].map((strict): typeof RAW_TOOLS[number] => [
    `strict ${strict}`,
    openaiChat,
    {
      type: "function",
      function: {
        name: "f",
        parameters: { type: "object", properties: {} },
        ...strict === undefined ? {} : { strict },
      },
    },
  ]),
  ["omitted parameters", openaiChat, { type: "function", function: { name: "f" } }],
  ["a custom tool", openaiChat, { type: "custom", custom: { name: "sql", format: { type: "x" } } }],
  ["no description", openaiResponses, {
    type: "function",
    name: "f",
    parameters: null,
    strict: null,
  }],
  ["the provider's search", openaiResponses, { type: "web_search" }],
  ["a cached tool", anthropic, {
    name: "f",
    input_schema: { type: "object" },
    cache_control: { type: "ephemeral" },
  }],
  ["the provider's search", anthropic, { type: "web_search_20250305", name: "web_search" }],
];

for (const [name, format, raw] of RAW_TOOLS) {
  Deno.test(`a ${format.id} tool comes back to the byte: ${name}`, () => {
    const stored = put(format, "tool", raw);
    assert.equal(JSON.stringify(show(format, "tool", stored)), JSON.stringify(raw));
    // What is stored passes through jsonb, which reorders keys.
    const reordered = Object.fromEntries(Object.entries(stored).toReversed());
    assert.equal(JSON.stringify(show(format, "tool", reordered)), JSON.stringify(raw));
  });
}

Deno.test("unknown keys of the new form become extras", () => {
  const icons = [{ src: "x" }];
  const stored = put(newFormat, "tool", { ...WEATHER, icons });
  assert.deepEqual(stored, { ...WEATHER, extras: { owner: "team", icons } });
});

for (const format of TOOL_FORMATS) {
  Deno.test(`a stored tool survives a trip through ${format.id}`, () => {
    const wire = exportTools(format, [WEATHER]);
    assert.equal(JSON.stringify(importTools(format, wire, [WEATHER])), JSON.stringify([WEATHER]));
  });

  Deno.test(`an edit in ${format.id} wins and leaves the rest`, () => {
    const [wire] = exportTools(format, [WEATHER]);
    const edited = JSON.parse(JSON.stringify(wire).replace("Tells the weather", "Edited"));
    const [stored] = importTools(format, [edited], [WEATHER]);
    const { extras: _, ...rest } = { ...WEATHER, description: "Edited" };
    const { extras, ...others } = stored as unknown as typeof WEATHER;
    assert.deepEqual(others, rest);
    assert.equal(extras.owner, "team");
    assert.deepEqual(exportTools(format, [stored as Row]), [edited]);
  });
}

Deno.test("old types become JSON Schema's and keep their names beside", () => {
  const stored = put(legacy, "tool", {
    name: "f",
    parameters: {
      type: "dict",
      properties: {
        a: { type: "float" },
        b: { type: "any", description: "b" },
        type: { type: "ArrayList", items: { type: "char" } },
      },
    },
  });
  assert.deepEqual(stored.input_schema, {
    type: "object",
    "x-legacy-type": "dict",
    properties: {
      a: { type: "number", "x-legacy-type": "float" },
      b: { "x-legacy-type": "any", description: "b" },
      type: {
        type: "array",
        "x-legacy-type": "ArrayList",
        items: { type: "string", "x-legacy-type": "char" },
      },
    },
  });
  const strict = show(openaiChat, "tool", { ...stored, strict: true });
  assert.doesNotMatch(JSON.stringify(strict), /x-legacy-type/);
});

for (const { name, input, expect } of readVectors("tool_types").cases) {
  Deno.test(`tool type: ${name}`, () => {
    const stored = put(legacy, "tool", { name: "f", parameters: { a: input } });
    assert.deepEqual(stored.input_schema, {
      type: "object",
      properties: { a: expect },
      required: [],
    });
    assert.deepEqual(show(legacy, "tool", stored).parameters, { a: input });
  });
}

Deno.test("a type that was changed since is not put back", () => {
  const stored = put(legacy, "tool", { name: "f", parameters: { a: { type: "float" } } });
  const text = JSON.stringify(stored.input_schema).replace('"number"', '"integer"');
  const edited = { ...stored, input_schema: JSON.parse(text) };
  assert.deepEqual(show(legacy, "tool", edited).parameters, {
    a: { type: "integer", required: false },
  });
});

Deno.test("tools that only their provider can run are sent to nobody else", () => {
  const search = put(anthropic, "tool", { type: "web_search_20250305", name: "web_search" });
  assert.deepEqual(exportTools(openaiChat, [search]), []);
  assert.equal(exportTools(anthropic, [search]).length, 1);
});

Deno.test("ToolNames gives every name an alias of its own and takes it back", () => {
  const long = "a.".repeat(60);
  const all = ["a.b", "a__b", "a_b", "a b", "a__b_2", "", "é", "日本", long, `${long}x`, "ok-1"];
  const names = new ToolNames(all);
  const aliases = all.map((name) => names.toWire(name));
  assert.equal(new Set(aliases).size, all.length);
  for (const alias of aliases) assert.match(alias, /^[a-zA-Z0-9_-]{1,64}$/);
  assert.deepEqual(aliases.map((alias) => names.fromWire(alias)), all);
  // Names that are allowed keep themselves, whatever else there is.
  assert.deepEqual(["a__b", "a_b", "ok-1"].map((name) => names.toWire(name)), [
    "a__b",
    "a_b",
    "ok-1",
  ]);
  assert.equal(names.fromWire("made_up"), "made_up");
  assert.match(names.toWire("un.known"), /^un__known$/);
});

const CALLS: readonly [string, (typeof TOOL_FORMATS)[number], Row][] = [
  ["text", legacy, { name: "f", arguments: '{"a":1}' }],
  ["an object", legacy, { name: "f", arguments: { b: 1, a: { c: [] } } }],
  ["invalid text", legacy, { name: "f", arguments: "{oops" }],
  ["blanks", openaiChat, {
    id: "call_1",
    type: "function",
    function: { name: "f", arguments: '{ "a": 1.0 }' },
  }],
  ["a long number", openaiChat, {
    id: "call_1",
    type: "function",
    function: { name: "f", arguments: '{"a":9007199254740993}' },
  }],
  ["cut short", openaiChat, {
    id: "call_1",
    type: "function",
    function: { name: "f", arguments: '{"a":' },
    index: 0,
  }],
  ["no text", openaiChat, {
    id: "call_1",
    type: "function",
    function: { name: "f", arguments: "" },
  }],
  ["a custom tool", openaiChat, {
    id: "call_1",
    type: "custom",
    custom: { name: "sql", input: "select 1" },
  }],
  ["an item", openaiResponses, {
    type: "function_call",
    call_id: "call_1",
    name: "f",
    arguments: "{}",
    id: "fc_1",
    status: "completed",
  }],
  ["a custom item", openaiResponses, {
    type: "custom_tool_call",
    call_id: "call_1",
    name: "sql",
    input: "select 1",
  }],
  ["a block", anthropic, { type: "tool_use", id: "toolu_1", name: "f", input: { z: 1, a: 2 } }],
  ["no object", anthropic, { type: "tool_use", id: "toolu_1", name: "f", input: [1] }],
];

for (const [name, format, raw] of CALLS) {
  Deno.test(`a ${format.id} call comes back to the byte: ${name}`, () => {
    const stored = put(format, "call", raw);
    assert.equal(JSON.stringify(show(format, "call", stored)), JSON.stringify(raw));
    for (const other of TOOL_FORMATS) {
      const wire = show(other, "call", stored);
      const back = put(other, "call", wire, { base: stored });
      assert.equal(JSON.stringify(back), JSON.stringify(stored), other.id);
    }
  });
}

Deno.test("invalid arguments are kept, marked, and shown to a provider that wants an object", () => {
  const stored = put(openaiChat, "call", {
    id: "call_1",
    type: "function",
    function: { name: "f", arguments: '{"a":' },
  });
  assert.deepEqual([stored.input, stored.arguments_raw, stored.state], [null, '{"a":', "error"]);
  const wire = show(anthropic, "call", stored);
  assert.deepEqual(wire.input, { INVALID_JSON: '{"a":' });
  assert.equal(put(anthropic, "call", wire).arguments_raw, '{"a":');
});

const OUTPUTS: readonly [string, unknown][] = [
  ["text", "12 degrees"],
  ["nothing", null],
  ["a structure", { b: [1, { c: null }], a: "x" }],
  ["a number", 0],
];

for (const [name, output] of OUTPUTS) {
  Deno.test(`a result survives every format: ${name}`, () => {
    const stored = {
      type: "tool_result",
      tool_call_id: "call_1",
      name: "f.x",
      output,
      is_error: true,
      extras: { ms: 5 },
    };
    const names = namesOf([{ name: "f.x" }]);
    for (const format of TOOL_FORMATS) {
      const wire = show(format, "result", stored, names);
      assert.deepEqual(put(format, "result", wire, { base: stored, names }), stored, format.id);
    }
  });
}

Deno.test("parts of a result survive, unknown ones too", () => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "AA" } };
  const raw = {
    type: "tool_result",
    tool_use_id: "toolu_1",
    content: [{ type: "text", text: "a" }, image, { type: "text", text: "b" }],
    is_error: true,
  };
  const stored = put(anthropic, "result", raw);
  assert.equal(stored.output, "a\n\nb");
  assert.deepEqual(show(anthropic, "result", stored), raw);
  // Edited by a V1 client, who sees the output only.
  assert.equal(show(anthropic, "result", { ...stored, output: "c" }).content, "c");
});

/** Draws something that a tool, a call or a result might be, or that is nothing of the kind. */
function anything(rows: Rows): Row {
  const keys = ["type", "id", "call_id", "tool_use_id", "tool_call_id", "name", "description"];
  const values = [
    "function",
    "custom",
    "function_call",
    "tool_use",
    "tool_result",
    "a.b",
    "",
    null,
  ];
  const schema = () => ({
    type: rows.pick(["object", "dict", "any", 5, ["str", "null"]]),
    properties: rows.object(rows.list(3, () => [
      rows.pick(["a", "type", "__proto__", "properties"]),
      rows.pick<unknown>([{ type: "float" }, { required: true }, { required: ["x"] }, true, null]),
    ])),
    required: rows.pick<unknown>([["a"], "a", undefined]),
  });
  const inner = (): Row => ({
    name: rows.pick<unknown>(["f", "a.b", 7]),
    arguments: rows.pick<unknown>(['{"a":1}', "{", "", { a: [1] }, null]),
    parameters: rows.pick<unknown>([schema(), null, rows.value()]),
    strict: rows.pick<unknown>([true, false, null]),
  });
  const parts: [string, unknown][] = [
    ...rows.list(4, (): [string, unknown] => [rows.pick(keys), rows.pick<unknown>(values)]),
    ...rows.list(4, (): [string, unknown] =>
      rows.pick<() => [string, unknown]>([
        () => ["function", inner()],
        () => ["custom", inner()],
        () => ["parameters", schema()],
        () => ["input_schema", schema()],
        () => ["input", rows.value()],
        () => ["arguments", rows.pick<unknown>(['{"a":1}', "{oops", {}, 5])],
        () => ["content", rows.pick<unknown>([rows.value(), [{ type: "text", text: "a" }, 1]])],
        () => ["output", rows.value()],
        () => ["is_error", rows.often()],
        () => ["extras", rows.value()],
        () => [rows.pick(["x", ""]), rows.value()],
      ])()),
  ];
  return JSON.parse(JSON.stringify(Object.fromEntries(parts)));
}

const CASES = Number(Deno.env.get("CROSSFADE_CASES") ?? 10_000);
const SEED = Number(Deno.env.get("CROSSFADE_SEED") ?? Math.floor(Math.random() * 2 ** 31));
const KINDS = ["tool", "call", "result"] as const;

Deno.test(`anything comes back to the byte from every format, for ${CASES} generated values`, () => {
  const names = namesOf([{ name: "a.b" }, { name: "f" }]);
  for (let place = 0; place < CASES; place++) {
    const rows = new Rows(SEED + place);
    const raw = anything(rows);
    const [kind, format, other] = [
      rows.pick(KINDS),
      rows.pick(TOOL_FORMATS.filter(({ id }) => id !== "new")),
      rows.pick(TOOL_FORMATS),
    ];
    const what = `CROSSFADE_SEED=${SEED + place} ${kind} ${format.id} ${other.id}`;
    const stored = put(format, kind, raw, { names });
    assert.equal(JSON.stringify(show(format, kind, stored, names)), JSON.stringify(raw), what);
    const trip = put(other, kind, show(other, kind, stored, names), { names, base: stored });
    assert.equal(JSON.stringify(trip), JSON.stringify(stored), what);
  }
});

// One tool of each form, and the two frameworks they were written for.

const OLD_TOOL = {
  name: "echo.old",
  description: "Says it again",
  parameters: { words: { type: "str", required: true } },
  execute(parameters: Row): string {
    if (parameters.words === "fail") throw new Error("no such words");
    return `old: ${parameters.words}`;
  },
};

const NEW_TOOL = {
  name: "sum",
  input_schema: { type: "object", properties: { values: { type: "array" } } },
  annotations: { read_only: true },
  version: "2",
  run: ({ values }: Row) =>
    Promise.resolve({ sum: (values as number[]).reduce((a, b) => a + b, 0) }),
};

Deno.test("an old tool runs unchanged in the new framework", async () => {
  const wrapper = new ToolCompatibilityWrapper([OLD_TOOL, NEW_TOOL]);
  const definitions = wrapper.definitions();
  const names = namesOf(definitions);
  // What the model is sent, and what it answers.
  const sent = exportTools(openaiChat, definitions, names);
  assert.deepEqual(sent[0], {
    type: "function",
    function: {
      name: "echo__old",
      description: "Says it again",
      parameters: {
        type: "object",
        properties: { words: { type: "string", "x-legacy-type": "str" } },
        required: ["words"],
      },
    },
  });
  const ask = (words: string) =>
    wrapper.run(put(openaiChat, "call", {
      id: "call_1",
      type: "function",
      function: { name: "echo__old", arguments: JSON.stringify({ words }) },
    }, { names }));
  const block = { type: "tool_result", tool_call_id: "call_1", name: "echo.old" };
  assert.deepEqual(await ask("hi"), { ...block, output: "old: hi", is_error: false });
  assert.deepEqual(await ask("fail"), { ...block, output: "no such words", is_error: true });
});

Deno.test("a call that is not what the model asked for runs no tool", async () => {
  const wrapper = new ToolCompatibilityWrapper([OLD_TOOL, NEW_TOOL]);
  const call = { tool_call_id: "a", name: "echo.old", input: { words: "x" } };
  const told = async (changes: Row) => {
    const { output, is_error } = await wrapper.run({ ...call, ...changes });
    assert.equal(is_error, true);
    return output;
  };
  assert.equal(await told({ state: "error", error: "cut short" }), "cut short");
  assert.match(String(await told({ input: null })), /not an object/);
  assert.match(String(await told({ name: "nowhere" })), /There is no tool/);
});

Deno.test("output that JSON cannot hold is an error of the tool, not of the caller", async () => {
  const wrapper = new ToolCompatibilityWrapper([{
    name: "big",
    input_schema: {},
    run: () => Promise.resolve(1n),
  }, { name: "nothing", input_schema: {}, run: () => Promise.resolve(undefined) }]);
  assert.equal((await wrapper.run({ tool_call_id: "a", name: "big", input: {} })).is_error, true);
  const answer = await wrapper.run({ tool_call_id: "a", name: "nothing", input: {} });
  assert.deepEqual([answer.output, answer.is_error], [null, false]);
});
