/**
 * Reads answers of Chat Completions, whole and streamed, in the dialects of its many servers.
 *
 * @module
 */

import {
  isObject,
  type JsonObject,
  own,
  setKey,
  textField,
  without,
} from "../adapters/changes/json.ts";
import type { RawAnswer } from "./answer.ts";
import { unknownBlock } from "./blocks.ts";
import { type Assembler, failureOf, lastText, type Say } from "./assembler.ts";
import { CallPieces } from "./call_pieces.ts";
import { put, toObject } from "./format.ts";
import type { ToolNames } from "./names.ts";
import { openaiChat, REASONING_KEYS } from "./openai_chat.ts";

/** Keys of a message that are read; all others are kept as they are. */
const READ_KEYS: ReadonlySet<string> = new Set([
  ...REASONING_KEYS,
  ...["role", "content", "refusal", "tool_calls", "function_call", "images"],
]);

export function readChat(answer: JsonObject, names?: ToolNames): RawAnswer {
  const choice = firstChoice(answer);
  const message = [choice.message, choice.delta].find(isObject);
  const said = message ?? (choice.text === undefined ? {} : { content: choice.text });
  const ending = textField(choice, "finish_reason");
  return {
    content: messageBlocks(said, names),
    ...(ending === undefined ? {} : { ending }),
    ...{ model: answer.model, usage: answer.usage },
    ...failureOf(answer.error, choice.error),
  };
}

function firstChoice({ choices }: JsonObject): JsonObject {
  const all = Array.isArray(choices) ? choices.filter(isObject) : [choices].filter(isObject);
  return all.find((choice) => choice.index === 0) ?? all[0] ?? {};
}

/** Returns the blocks of a message of the assistant, in the order in which such a message is said. */
export function messageBlocks(message: JsonObject, names?: ToolNames): JsonObject[] {
  const block = (raw: unknown) =>
    isObject(raw) ? put(openaiChat, "block", raw) : unknownBlock(raw, openaiChat.id);
  const { content, refusal, images } = message;
  const parts = content === null || content === undefined || content === ""
    ? []
    : typeof content === "string"
    ? [{ type: "text", text: content }]
    : listOf(content).map((part) => typeof part === "string" ? { type: "text", text: part } : part);
  const thoughts = keysOf(message, (key, value) => isReasoning(key) && !isNothing(value));
  const others = keysOf(message, (key, value) => !READ_KEYS.has(key) && !isNothing(value));
  return [
    ...(thoughts === undefined ? [] : [block(thoughts)]),
    ...parts.map(block),
    ...(isNothing(refusal)
      ? []
      : [typeof refusal === "string" ? block({ type: "refusal", refusal }) : block({ refusal })]),
    ...(isNothing(images) ? [] : listOf(images).map(block)),
    ...calls(message).map((call) => callBlock(call, names)),
    ...(others === undefined ? [] : [block(others)]),
  ];
}

function isReasoning(key: string): boolean {
  return (REASONING_KEYS as readonly string[]).includes(key);
}

/** Whether a key says no more than that there is nothing. */
function isNothing(value: unknown): boolean {
  return value === null || value === undefined || value === "" ||
    (Array.isArray(value) && value.length === 0);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [value];
}

function keysOf(
  message: JsonObject,
  isWanted: (key: string, value: unknown) => boolean,
): JsonObject | undefined {
  const found: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(message)) {
    if (isWanted(key, value)) setKey(found, key, value);
  }
  return Object.keys(found).length === 0 ? undefined : found;
}

function calls({ tool_calls, function_call }: JsonObject): unknown[] {
  const listed = isNothing(tool_calls) ? [] : listOf(tool_calls);
  return isNothing(function_call)
    ? [...listed]
    : [...listed, { type: "function", function: function_call }];
}

function callBlock(call: unknown, names: ToolNames | undefined): JsonObject {
  const inner = own(call, own(call, "type") === "custom" ? "custom" : "function");
  const name = textField(inner, "name");
  // Nothing can be run that has no name.
  return isObject(call) && name !== undefined && name !== ""
    ? put(openaiChat, "call", without(call, ["index"]), { names })
    : unknownBlock(call, openaiChat.id);
}

/** Puts a streamed message together, in the form of a whole one. */
export class ChatAssembler implements Assembler {
  #ending: string | undefined;
  #model: unknown;
  #usage: unknown;
  #error: unknown;
  readonly #message: Record<string, unknown> = {};
  readonly #calls = new CallPieces();
  readonly #say: Say;

  constructor(say: Say) {
    this.#say = say;
  }

  get ended(): boolean {
    return this.#ending !== undefined;
  }

  get failed(): boolean {
    return this.#error !== undefined;
  }

  add(chunk: JsonObject): void {
    const choice = firstChoice(chunk);
    // Only the first of several answers is read.
    if (typeof choice.index === "number" && choice.index > 0) return;
    const { delta, message, text } = choice;
    // The last chunk of some servers repeats the message as a whole.
    const isRepeated = !isObject(delta) && isObject(message) && this.#message.content !== undefined;
    if (!isRepeated) {
      this.#addDelta(toObject(isObject(delta) ? delta : message ?? { content: text }));
    }
    this.#ending = lastText(choice.finish_reason, this.#ending);
    this.#model = lastText(chunk.model, this.#model);
    if (isObject(chunk.usage)) this.#usage = chunk.usage;
    this.#error ??= chunk.error ?? choice.error ?? undefined;
  }

  whole(): JsonObject {
    const tool_calls = this.#calls.whole();
    const message = {
      ...this.#message,
      ...(tool_calls.length === 0 ? {} : { tool_calls }),
    };
    return {
      model: this.#model,
      usage: this.#usage,
      error: this.#error ?? (this.#calls.isBroken ? { type: "piece_of_nothing" } : undefined),
      choices: [{ message, finish_reason: this.#ending }],
    };
  }

  #addDelta(delta: JsonObject): void {
    for (const [key, value] of Object.entries(delta)) {
      if (value === null || value === undefined || key === "role") continue;
      if (key === "tool_calls") this.#calls.add(value);
      else if (key === "function_call") this.#calls.add({ type: "function", function: value });
      else setKey(this.#message, key, joined(own(this.#message, key), value));
      if (key === "content") { for (const piece of textsOf(value)) this.#say("text", piece); }
      if (key === "refusal" && typeof value === "string") this.#say("refusal", value);
    }
  }
}

function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return [];
  return value.flatMap((part: unknown) => {
    const text = typeof part === "string" ? part : textField(part, "text");
    return text === undefined ? [] : [text];
  });
}

/** Returns what was received of a key, and a further piece of it. */
function joined(before: unknown, piece: unknown): unknown {
  if (before === undefined) return piece;
  if (typeof before === "string" && typeof piece === "string") return before + piece;
  if (!Array.isArray(before) && !Array.isArray(piece)) {
    if (isObject(before) && isObject(piece)) return { ...before, ...piece };
    // A number or a mark that is said again; the last one counts, and no text is lost.
    if (typeof before !== "string") return typeof piece === "string" ? [before, piece] : piece;
  }
  const list = [...asParts(before)];
  for (const part of asParts(piece)) {
    const last = list.at(-1);
    const whole = isObject(last) && isObject(part) ? joinParts(last, part) : undefined;
    if (whole === undefined) list.push(part);
    else list[list.length - 1] = whole;
  }
  return list;
}

function asParts(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  return [typeof value === "string" ? { type: "text", text: value } : value];
}

/** Keys of a part whose pieces belong together. */
const TEXT_KEYS = ["text", "thinking", "summary", "data", "refusal"];

/** Two pieces of one part are of one type, and at one place where that is said. */
function joinParts(last: JsonObject, part: JsonObject): JsonObject | undefined {
  if (last.type !== part.type || last.index !== part.index) return undefined;
  const key = TEXT_KEYS.find((name) => Object.hasOwn(part, name));
  const whole: Record<string, unknown> = { ...last, ...part };
  if (key === undefined) return Object.hasOwn(part, "signature") ? whole : undefined;
  if (Object.hasOwn(last, key)) whole[key] = joined(last[key], part[key]);
  return whole;
}
