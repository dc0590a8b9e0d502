/**
 * Takes data sets (JSON on standard input) through the adapters and prints what does not come back.
 *
 * @module
 */

import { exportTools, namesOf } from "../../supabase/functions/chat/formats/formats.ts";
import { importTools, TOOL_FORMATS } from "./tool_formats.ts";
import {
  mergeMessageHistories,
  toV1,
  toV2,
} from "../../supabase/functions/chat/adapters/message_adapter.ts";
import { put, show, type ToolFormat } from "../../supabase/functions/chat/formats/format.ts";
import { legacy } from "../../supabase/functions/chat/formats/legacy.ts";
import { openaiChat } from "../../supabase/functions/chat/formats/openai_chat.ts";

type Row = Record<string, unknown>;

interface Corpora {
  readonly tools: readonly Row[];
  readonly dialogues: Readonly<Record<string, readonly string[]>>;
  readonly results: readonly unknown[];
  readonly histories: readonly (readonly Row[])[];
}

interface Fault {
  readonly what: string;
  readonly got: unknown;
  readonly wanted: unknown;
}

const faults: Fault[] = [];

function expectSame(what: string, got: unknown, wanted: unknown): void {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) faults.push({ what, got, wanted });
}

function checkTools(raws: readonly Row[]): Row[] {
  const stored = importTools(legacy, raws);
  const names = namesOf(stored);
  expectSame("tools: read and written", exportTools(legacy, stored), raws);
  // None needs its exact form beside: the formats have room for all that these tools say.
  expectSame(
    "tools: kept whole",
    stored.filter(({ extras }) => Object.hasOwn(Object(extras), "raw")),
    [],
  );
  for (const format of TOOL_FORMATS) {
    const wires = exportTools(format, stored, names);
    for (const [place, wire] of wires.entries()) checkTool(format, { wire, names }, stored[place]);
  }
  // One after the other, so that a loss of one format would show in the next.
  const chained = stored.map((tool) =>
    TOOL_FORMATS.reduce(
      (before: Row, format) =>
        put(format, "tool", show(format, "tool", before, names), { names, base: before }),
      tool,
    )
  );
  expectSame("tools: through all formats", exportTools(legacy, chained), raws);
  return exportTools(openaiChat, stored, names);
}

interface Wire {
  readonly wire: Row;
  readonly names: ReturnType<typeof namesOf>;
}

function checkTool(format: ToolFormat, { wire, names }: Wire, tool: Row | undefined): void {
  const { name, description, input_schema } = tool ?? {};
  const what = `tool ${name} in ${format.id}`;
  expectSame(what, put(format, "tool", wire, { names, base: tool ?? {} }), tool);
  // The wire alone, without the stored tool, already says all that a model is told.
  const alone = put(format, "tool", wire, { names });
  expectSame(`${what} alone`, [alone.name, alone.description, alone.input_schema], [
    name,
    description,
    input_schema,
  ]);
}

function checkDialogues(dialogues: Corpora["dialogues"]): void {
  for (const [language, texts] of Object.entries(dialogues)) {
    for (const [place, content] of texts.entries()) {
      const role = place % 2 === 0 ? "user" : "assistant";
      const message = { role, content, metadata: { language } };
      const v2 = toV2(message);
      const blocks = content === "" ? [] : [{ type: "text", text: content }];
      expectSame(`${language} ${place} in V2`, [v2.content, v2.metadata], [blocks, {
        legacy: { language },
      }]);
      expectSame(`${language} ${place} up and down`, toV1(v2), message);
      expectSame(`${language} ${place} down and up`, toV2(toV1(v2), v2), v2);
    }
  }
}

function checkResults(results: readonly unknown[]): void {
  for (const [place, output] of results.entries()) {
    const stored = {
      type: "tool_result",
      tool_call_id: `call_${place}`,
      name: "f",
      output,
      is_error: false,
    };
    for (const format of TOOL_FORMATS) {
      const wire = show(format, "result", stored);
      expectSame(
        `result ${place} in ${format.id}`,
        put(format, "result", wire, { base: stored }),
        stored,
      );
    }
    const { content: told } = show(openaiChat, "result", stored);
    const isText = typeof output === "string";
    expectSame(
      `result ${place} as text`,
      sorted(isText ? told : JSON.parse(String(told))),
      sorted(output),
    );
    const message = { role: "tool", content: [stored], seq: null, metadata: {} };
    const { content } = toV2(toV1(message), message);
    expectSame(`result ${place} in V1`, content, [stored]);
  }
}

/** Two clients know parts of a chat, each in its format; neither knows the order of the other's. */
function checkHistories(histories: readonly (readonly Row[])[]): void {
  for (const history of histories) {
    const first = history.filter((_, place) => place % 3 !== 0).toReversed();
    const second = history.filter((_, place) => place % 3 !== 1).map((message) => toV2(message));
    for (const [to, wanted] of [[1, history], [2, history.map((row) => toV2(row))]] as const) {
      const merged = mergeMessageHistories(first, second, { to });
      expectSame(`chat of ${history[0]?.id} merged to ${to}`, sorted(merged), sorted(wanted));
    }
  }
}

/** Sorts keys, which text of jsonb has in another order. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.entries(value).map(([key, item]) => [key, sorted(item)])
    .toSorted(([a], [b]) => String(a) < String(b) ? -1 : 1);
}

const corpora: Corpora = JSON.parse(await new Response(Deno.stdin.readable).text());
const wire_tools = checkTools(corpora.tools);
checkDialogues(corpora.dialogues);
checkResults(corpora.results);
checkHistories(corpora.histories);
console.log(JSON.stringify({ faults: faults.slice(0, 5), count: faults.length, wire_tools }));
