/**
 * Takes recorded answers of providers (JSON on standard input) through the reader, both message
 * formats and the export to each provider, and prints what does not come back.
 *
 * @module
 */

import { toV1, toV2 } from "../../supabase/functions/chat/adapters/message_adapter.ts";
import { equal } from "../../supabase/functions/chat/adapters/changes/json.ts";
import type { ModelAnswer } from "../../supabase/functions/chat/formats/answer.ts";
import { anthropic } from "../../supabase/functions/chat/formats/anthropic.ts";
import { exportConversation } from "../../supabase/functions/chat/formats/export.ts";
import { put, type ToolFormat } from "../../supabase/functions/chat/formats/format.ts";
import { namesOf } from "../../supabase/functions/chat/formats/formats.ts";
import { openaiChat } from "../../supabase/functions/chat/formats/openai_chat.ts";
import { openaiResponses } from "../../supabase/functions/chat/formats/openai_responses.ts";
import { readBody } from "../../supabase/functions/chat/formats/read_answer.ts";
import { isCall } from "../../supabase/functions/chat/formats/steps.ts";
import { refusals } from "./provider_rules.ts";

type Row = Record<string, unknown>;

interface Recorded {
  readonly src: string;
  readonly host: string;
  readonly kind: string;
  readonly text: string;
}

const FORMATS: readonly ToolFormat[] = [openaiChat, openaiResponses, anthropic];
const faults: string[] = [];
const counts: Record<string, number> = {};
const count = (name: string): void => void (counts[name] = (counts[name] ?? 0) + 1);

function expectSame(what: string, got: unknown, wanted: unknown): void {
  if (equal(got, wanted)) return;
  faults.push(`${what}\n  got    ${short(got)}\n  wanted ${short(wanted)}`);
}

function short(value: unknown): string {
  return (JSON.stringify(value) ?? "undefined").slice(0, 1500);
}

const rows = (value: unknown): Row[] => Array.isArray(value) ? value as Row[] : [];
const text = (value: unknown): string => typeof value === "string" ? value : "";

/** Returns the bodies of events. An own, short reading: the function's must not judge itself. */
function bodies(stream: string): Row[] {
  return stream.split(/\r?\n\r?\n/).flatMap((event) => {
    const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(5).trim()).join("\n");
    return data === "" || data === "[DONE]" ? [] : [JSON.parse(data) as Row];
  });
}

interface Said {
  readonly text: string;
  readonly reasoning: string;
  /** Id, name and arguments of each call that the client has to run. */
  readonly calls: readonly (readonly string[])[];
}

/** Returns what an answer says, by looking only where its provider's documents say. */
function saidIn({ kind, text: body }: Recorded): Said {
  const [dialect, form] = kind.split(" ");
  if (dialect === "chat") return form === "whole" ? chatWhole(JSON.parse(body)) : chatStream(body);
  if (dialect === "anthropic") {
    return anthropicBlocks(form === "whole" ? JSON.parse(body).content : anthropicStream(body));
  }
  return responsesItems(form === "whole" ? JSON.parse(body).output : responsesStream(body));
}

function chatWhole({ choices }: Row): Said {
  const { message } = rows(choices)[0] as { message: Row };
  return {
    text: text(message.content),
    reasoning: text(message.reasoning_content) || text(message.reasoning),
    calls: rows(message.tool_calls).map(({ id, function: f }) => {
      const { name, arguments: given } = f as Row;
      return [text(id), text(name), text(given)];
    }),
  };
}

function chatStream(stream: string): Said {
  // Where several answers were asked for, only the first is read.
  const deltas = bodies(stream).flatMap(({ choices }) => rows(choices))
    .filter(({ index }) => index === 0).map(({ delta }) => (delta ?? {}) as Row);
  const calls: string[][] = [];
  for (const piece of deltas.flatMap(({ tool_calls }) => rows(tool_calls))) {
    const { name, arguments: given } = (piece.function ?? {}) as Row;
    const call = calls[Number(piece.index)] ??= ["", "", ""];
    call[0] += text(piece.id);
    call[1] += text(name);
    call[2] += text(given);
  }
  return {
    text: deltas.map(({ content }) => text(content)).join(""),
    reasoning: deltas.map((d) => text(d.reasoning_content) || text(d.reasoning)).join(""),
    calls,
  };
}

function anthropicStream(stream: string): Row[] {
  const blocks: Row[] = [];
  for (const { type, index, content_block, delta } of bodies(stream)) {
    if (type === "content_block_start") blocks[Number(index)] = { ...content_block as Row };
    if (type !== "content_block_delta") continue;
    const block = blocks[Number(index)] as Row;
    const piece = delta as Row;
    if (piece.type === "text_delta") block.text = text(block.text) + piece.text;
    if (piece.type === "thinking_delta") block.thinking = text(block.thinking) + piece.thinking;
    if (piece.type === "input_json_delta") block.json = text(block.json) + piece.partial_json;
  }
  return blocks.map((b) => b.json ? { ...b, input: JSON.parse(text(b.json)) } : b);
}

function anthropicBlocks(blocks: unknown): Said {
  const of = (type: string) => rows(blocks).filter((block) => block.type === type);
  return {
    text: of("text").map((block) => text(block.text)).join("\n\n"),
    reasoning: of("thinking").map((block) => text(block.thinking)).join("\n\n"),
    calls: of("tool_use").map((b) => [text(b.id), text(b.name), JSON.stringify(b.input)]),
  };
}

function responsesStream(stream: string): Row[] {
  const done = bodies(stream).filter(({ type }) => type === "response.output_item.done");
  return done.map(({ item }) => item as Row);
}

function responsesItems(items: unknown): Said {
  const of = (type: string) => rows(items).filter((item) => item.type === type);
  const parts = (item: Row) => rows(item.content).map((part) => text(part.text));
  return {
    text: of("message").flatMap(parts).join("\n\n"),
    reasoning: of("reasoning").flatMap((item) => rows(item.summary)).map((part) => text(part.text))
      .join(""),
    calls: rows(items).filter(({ type }) => type === "function_call" || type === "custom_tool_call")
      .map((item) => [text(item.call_id), text(item.name), text(item.arguments ?? item.input)]),
  };
}

async function check(recorded: Recorded): Promise<void> {
  const { src, host, kind, text: body } = recorded;
  const what = `${src} ${host} ${kind}`;
  const pieces: string[] = [];
  const isStream = kind.endsWith("stream");
  const answer = await readBody(new Response(body).body as ReadableStream<Uint8Array>, {
    isStream,
    onText: (piece) => pieces.push(piece),
  });
  count(`outcome ${answer.outcome}`);
  const said = saidIn(recorded);
  const shown = toV1({ role: "assistant", content: answer.content });
  expectSame(`${what}: text`, shown.content, said.text);
  expectSame(`${what}: pieces`, pieces.join(""), said.text);
  checkReasoning(what, answer, said.reasoning);
  const calls = answer.content.filter(isCall);
  const isText = !kind.startsWith("anthropic");
  expectSame(
    `${what}: calls`,
    calls.map((
      b,
    ) => [
      b.tool_call_id,
      b.name,
      isText ? b.arguments_raw ?? JSON.stringify(b.input) : JSON.stringify(b.input),
    ]),
    said.calls.map(([id, ...call], place) => [id || `call_${place}`, ...call]),
  );
  checkStored(what, answer);
  for (const format of FORMATS) checkExport(what, format, { answer, recorded });
}

function checkReasoning(what: string, answer: ModelAnswer, wanted: string): void {
  const blocks = answer.content.filter(({ type }) => type === "reasoning");
  const texts = blocks.flatMap(({ text, summary }) =>
    rows(summary).length > 0 ? summary as string[] : text === undefined ? [] : [text]
  );
  const isAnthropic = blocks.some(({ provider }) => provider === "anthropic");
  expectSame(`${what}: reasoning`, texts.join(isAnthropic ? "\n\n" : ""), wanted);
}

function messageOf({ content, usage, finishReason, model }: ModelAnswer): Row {
  return {
    ...{ id: "00000000-0000-4000-8000-00000000000a", role: "assistant", content, metadata: {} },
    ...{ seq: 1, parent_id: null, status: "complete", model: model ?? null, usage },
    ...{ finish_reason: finishReason, error: null, schema_version: 2 },
    ...{ edited_at: null, deleted_at: null },
  };
}

/** Through V2 (as jsonb keeps it), V1 and back. */
function checkStored(what: string, answer: ModelAnswer): void {
  const message = sorted(messageOf(answer)) as Row;
  expectSame(`${what}: V2, V1 and back`, toV2(toV1(message), message), message);
  count("through V2, V1 and back");
}

/** Sorts keys, as jsonb does in its way. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, sorted(item)] as const)
      .toSorted(([a], [b]) => a.length - b.length || (a < b ? -1 : 1)),
  );
}

interface Sent {
  /** A result that the client gave is an `answer`. */
  readonly kind: "call" | "result" | "block" | "answer";
  readonly raw: Row;
}

function checkExport(
  what: string,
  format: ToolFormat,
  { answer, recorded }: { readonly answer: ModelAnswer; readonly recorded: Recorded },
): void {
  const { content } = sorted(messageOf(answer)) as { content: Row[] };
  const results = content.filter(isCall).map(({ tool_call_id, name }) => ({
    role: "tool",
    content: [{ type: "tool_result", tool_call_id, name, output: { done: [1] }, is_error: false }],
  }));
  const names = namesOf([], content.filter(isCall));
  const user = { role: "user", content: [{ type: "text", text: "Go on." }] };
  const messages = [user, { role: "assistant", content }, ...results];
  const { messages: sent, omitted, idOf } = exportConversation(format, messages, { names });
  for (const fault of refusals(format.id, sent as Row[])) {
    faults.push(`${what}: ${format.id} would refuse: ${fault}\n  ${short(sent)}`);
  }
  for (const { reason } of omitted) count(`left out ${reason}`);
  const gone = new Set<unknown>(omitted.map(({ block }) => block));
  const wanted = content.filter((block) => !gone.has(block));
  const back = unpack(format.id, sent as Row[]).filter(({ kind }) => kind !== "answer");
  const inOrder = format.id === "openai_chat"
    ? [...wanted.filter((b) => !isCall(b)), ...wanted.filter(isCall)]
    : wanted;
  const read = back.map(({ kind, raw }, place) => {
    const base = inOrder[place];
    const own = kind === "call" ? withId(format.id, raw, idOf) : raw;
    return put(format, kind as "call", own, { names, ...(base === undefined ? {} : { base }) });
  });
  const isNative = format.id.endsWith(recorded.kind.split(" ")[0] ?? "");
  expectSame(`${what}: ${format.id} and back`, read.map(unrefused), inOrder.map(unrefused));
  count(omitted.length === 0 ? `${format.id} exact` : `${format.id} rest exact, others by name`);
  if (isNative) {
    checkNative(what, format, { recorded, sent: sent as Row[], omitted: omitted.length });
  }
}

/** A refusal is words to those who know none. */
function unrefused(block: Row): Row {
  return block.type === "refusal" ? { ...block, type: "text" } : block;
}

function withId(format: string, raw: Row, idOf: (id: string) => string): Row {
  const key = format === "openai_responses" ? "call_id" : "id";
  return typeof raw[key] === "string" && !text(raw.type).match(/^(server|mcp)_tool_use$/)
    ? { ...raw, [key]: idOf(raw[key]) }
    : raw;
}

/** What a provider said goes back to it as it said it. */
function checkNative(
  what: string,
  format: ToolFormat,
  { recorded, sent, omitted }: {
    readonly recorded: Recorded;
    readonly sent: readonly Row[];
    readonly omitted: number;
  },
): void {
  const { kind, text: body } = recorded;
  if (!kind.endsWith("whole")) return;
  const raw = JSON.parse(body);
  if (format === anthropic) {
    const mine = rows(sent[1]?.content);
    if (omitted === 0) {
      expectSame(`${what}: as it was said`, mine.map(said), rows(raw.content).map(said));
    }
  } else if (format === openaiResponses) {
    const mine = sent.slice(1).filter(({ type }) => !text(type).endsWith("call_output"));
    if (omitted === 0) {
      expectSame(`${what}: as it was said`, mine.map(said), rows(raw.output).map(said));
    }
  } else {
    const { message } = rows(raw.choices)[0] as { message: Row };
    const mine = sent[1] ?? {};
    expectSame(`${what}: as it was said`, [mine.content ?? null, rows(mine.tool_calls).map(said)], [
      message.content || null,
      rows(message.tool_calls).map((call, place) =>
        said({ ...call, id: call.id || `call_${place}` })
      ),
    ]);
  }
  count("as it was said");
}

/** Leaves out what says nothing. */
function said(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(said);
  if (typeof value !== "object" || value === null) return value;
  const quiet = (key: string, item: unknown) =>
    item === null ||
    (["annotations", "logprobs", "content"].includes(key) && rows(item).length === 0 &&
      Array.isArray(item)) ||
    key === "index";
  return Object.fromEntries(
    Object.entries(value).filter(([key, item]) => !quiet(key, item))
      .map(([key, item]) => [key, said(item)]),
  );
}

/** Returns the parts of a conversation as it is sent, but for the user's words at its beginning. */
function unpack(format: string, messages: readonly Row[]): Sent[] {
  return messages.slice(1).flatMap((message): Sent[] => {
    if (format === "openai_responses") return unpackItem(message);
    if (format === "anthropic") {
      return rows(message.content).map((raw) => ({ raw, kind: anthropicKind(text(raw.type)) }));
    }
    if (message.role === "tool") return [{ kind: "answer", raw: message }];
    const { content, tool_calls, role: _, ...others } = message;
    const parts = typeof content === "string" ? [{ type: "text", text: content }] : rows(content);
    return [
      ...(Object.keys(others).length > 0 ? [{ kind: "block", raw: others } as const] : []),
      ...parts.map((raw) => ({ kind: "block", raw } as const)),
      ...rows(tool_calls).map((raw) => ({ kind: "call", raw } as const)),
    ];
  });
}

function anthropicKind(type: string): Sent["kind"] {
  if (type.endsWith("tool_use")) return "call";
  return type === "tool_result" ? "answer" : type.endsWith("tool_result") ? "result" : "block";
}

function unpackItem(item: Row): Sent[] {
  const type = text(item.type);
  if (type.endsWith("call_output")) return [{ kind: "answer", raw: item }];
  if (type === "message") return rows(item.content).map((raw) => ({ kind: "block", raw }));
  return [{ kind: type.endsWith("_call") ? "call" : "block", raw: item }];
}

const all: Recorded[] = JSON.parse(await new Response(Deno.stdin.readable).text());
for (const recorded of all) await check(recorded);
console.log(JSON.stringify({ faults: faults.slice(0, 400), count: faults.length, counts }));
