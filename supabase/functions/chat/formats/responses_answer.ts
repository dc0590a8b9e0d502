/**
 * Reads answers of OpenAI's Responses, whole and streamed.
 *
 * @module
 */

import { isObject, type JsonObject, textField } from "../adapters/changes/json.ts";
import type { RawAnswer } from "./answer.ts";
import { type Assembler, failureOf, type Say } from "./assembler.ts";
import { unknownBlock } from "./blocks.ts";
import { put, toObject } from "./format.ts";
import type { ToolNames } from "./names.ts";
import { openaiResponses as format } from "./openai_responses.ts";

export function readResponses(answer: JsonObject, names?: ToolNames): RawAnswer {
  const { output, status } = answer;
  const items: readonly unknown[] = Array.isArray(output) ? output : output == null ? [] : [output];
  const reason = textField(answer.incomplete_details, "reason");
  const ending = reason ?? (typeof status === "string" ? status : undefined);
  const isOver = ending !== undefined && ending !== "in_progress" && ending !== "queued";
  return {
    content: items.flatMap((item) => itemBlocks(item, names)),
    ...(isOver ? { ending } : {}),
    ...{ model: answer.model, usage: answer.usage },
    ...failureOf(answer.error),
  };
}

/** Returns the blocks of an item: several for a message, one for everything else. */
export function itemBlocks(item: unknown, names?: ToolNames): JsonObject[] {
  if (!isObject(item)) return [unknownBlock(item, format.id)];
  const { type, content } = item;
  if (type === "message") {
    if (Array.isArray(content) && content.length > 0) {
      return content.map((part) => partOf(item, part));
    }
    return typeof content === "string" ? [partOf(item, content)] : [unknownBlock(item, format.id)];
  }
  const isNamed = typeof item.name === "string" && item.name !== "";
  const isPlainCall = type === "function_call" || type === "custom_tool_call";
  const isCall = isPlainCall ? isNamed : typeof type === "string" && type.endsWith("_call");
  return [put(format, isCall ? "call" : "block", item, { names })];
}

/** Parts of one message are told by its id; its other keys stand beside where they say something. */
function partOf({ id, status, phase }: JsonObject, part: unknown): JsonObject {
  const raw = typeof part === "string" ? { type: "output_text", text: part } : part;
  const block = isObject(raw) ? put(format, "block", raw) : unknownBlock(raw, format.id);
  const item = {
    ...(typeof status === "string" && status !== "completed" ? { status } : {}),
    ...(typeof phase === "string" ? { phase } : {}),
  };
  return {
    ...block,
    ...(typeof id === "string" ? { id } : {}),
    ...(Object.keys(item).length > 0 ? { extras: { ...toObject(block.extras), item } } : {}),
  };
}

/** Where a piece belongs: a key of an item, or of one of a list of its parts. */
interface Target {
  readonly item: string;
  readonly key: string;
  readonly list?: "content" | "summary";
  readonly part?: string;
}

const TEXT: Target = { item: "message", list: "content", part: "output_text", key: "text" };
const REFUSAL: Target = { item: "message", list: "content", part: "refusal", key: "refusal" };
const SUMMARY: Target = { item: "reasoning", list: "summary", part: "summary_text", key: "text" };
const THOUGHT: Target = { item: "reasoning", list: "content", part: "reasoning_text", key: "text" };

/** What arrives in pieces, by the event that brings it. */
const PIECES: ReadonlyMap<unknown, Target> = new Map([
  ["response.output_text.delta", TEXT],
  ["response.refusal.delta", REFUSAL],
  ["response.reasoning_summary_text.delta", SUMMARY],
  ["response.reasoning_text.delta", THOUGHT],
  ["response.function_call_arguments.delta", { item: "function_call", key: "arguments" }],
  ["response.custom_tool_call_input.delta", { item: "custom_tool_call", key: "input" }],
  ["response.mcp_call_arguments.delta", { item: "mcp_call", key: "arguments" }],
  ["response.code_interpreter_call_code.delta", { item: "code_interpreter_call", key: "code" }],
]);

type Writable = Record<string, unknown>;

export class ResponsesAssembler implements Assembler {
  #answer: JsonObject = {};
  #error: unknown;
  #isBroken = false;
  /** In their order; one item may be told of several times, and grows by that. */
  readonly #items: { readonly index: unknown; item: Writable }[] = [];
  readonly #say: Say;

  constructor(say: Say) {
    this.#say = say;
  }

  get ended(): boolean {
    return readResponses(this.#answer).ending !== undefined;
  }

  get failed(): boolean {
    return this.#error !== undefined;
  }

  add(event: JsonObject): void {
    const { type, item, response, delta } = event;
    // By what it has and not by its name, where that is enough.
    if (isObject(response)) this.#setAnswer(response);
    else if (type === "error" || isObject(event.error)) this.#error = event.error ?? event;
    else if (isObject(item)) this.#setItem(event.output_index, item);
    else if (typeof delta === "string") this.#addPiece(event, delta);
  }

  whole(): JsonObject {
    const error = this.#error ?? (this.#isBroken ? { type: "piece_of_nothing" } : undefined);
    return {
      ...this.#answer,
      output: this.#items.map(({ item }) => item),
      ...(error === undefined ? {} : { error }),
    };
  }

  /** Some servers leave the items out of the last event: what was told before counts as well. */
  #setAnswer(answer: JsonObject): void {
    this.#answer = answer;
    const output: readonly unknown[] = Array.isArray(answer.output) ? answer.output : [];
    for (const [index, item] of output.entries()) {
      this.#setItem(index, isObject(item) ? item : { type: "odd", item });
    }
  }

  #setItem(index: unknown, item: JsonObject): void {
    const known = this.#find(index, item.id);
    if (known === undefined) this.#items.push({ index, item: structuredClone(item) });
    else known.item = grown(known.item, item);
  }

  #addPiece(event: JsonObject, piece: string): void {
    const { output_index: index, item_id: id } = event;
    const known = this.#find(index, id);
    const target = typeof event.type === "string" ? PIECES.get(event.type) : targetIn(known?.item);
    if (target === undefined) return;
    const item: Writable = known?.item ?? { type: target.item, id };
    if (known === undefined) {
      this.#items.push({ index, item });
      // Somebody's arguments are missing now: no call of this answer may be run.
      if (target.key === "arguments" || target.key === "input") this.#isBroken = true;
    }
    const { list, part, key } = target;
    const place = list === "summary" ? event.summary_index : event.content_index;
    append(
      list === undefined ? item : partAt(item, list, { index: place, type: part }),
      key,
      piece,
    );
    if (target.item === "message") this.#say(`${id ?? index} ${place}`, piece);
  }

  #find(index: unknown, id: unknown) {
    return this.#items.find((other) => typeof index === "number" && other.index === index) ??
      this.#items.find(({ item }) => typeof id === "string" && item.id === id) ??
      (index === undefined && id === undefined ? this.#items.at(-1) : undefined);
  }
}

/** Returns an item with what is told of it again; nothing that was said is taken back. */
function grown(known: Writable, item: JsonObject): Writable {
  const kept = Object.keys(known).filter((key) => sizeOf(known[key]) > sizeOf(item[key]));
  return {
    ...structuredClone(item),
    ...Object.fromEntries(kept.map((key) => [key, known[key]])),
    status: item.status ?? known.status,
  };
}

/** Where a piece belongs whose event does not say what it brings. */
function targetIn(item: Writable | undefined): Target | undefined {
  if (item === undefined) return TEXT;
  return [...PIECES.values()].find((target) => target.item === item.type);
}

/** How much text a value holds. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce((sum: number, part) => sum + sizeOf(part), 0);
}

function partAt(
  item: Writable,
  key: string,
  { index, type }: { readonly index: unknown; readonly type: string | undefined },
): Writable {
  const parts: unknown[] = Array.isArray(item[key]) ? item[key] : [];
  item[key] = parts;
  const isPlace = typeof index === "number" && index >= 0 && index <= parts.length;
  const place = isPlace ? index : Math.max(parts.length - 1, 0);
  const known = parts[place];
  if (isObject(known)) return known as Writable;
  const fresh: Writable = { type };
  parts[place] = fresh;
  return fresh;
}

function append(target: Writable, key: string, piece: string): void {
  const before = target[key];
  target[key] = (typeof before === "string" ? before : "") + piece;
}
