/**
 * Reads answers of Anthropic's Messages, whole and streamed.
 *
 * @module
 */

import { isObject, type JsonObject, textField } from "../adapters/changes/json.ts";
import { parseObject } from "../adapters/changes/storable.ts";
import type { RawAnswer } from "./answer.ts";
import { anthropic as format } from "./anthropic.ts";
import { type Assembler, failureOf, lastText, type Say } from "./assembler.ts";
import { unknownBlock } from "./blocks.ts";
import { put, toObject } from "./format.ts";
import type { ToolNames } from "./names.ts";

export function readAnthropic(answer: JsonObject, names?: ToolNames): RawAnswer {
  const { content } = answer;
  const blocks: readonly unknown[] = Array.isArray(content)
    ? content
    : content == null
    ? []
    : [content];
  const ending = textField(answer, "stop_reason");
  return {
    content: blocks.map((block) => readBlock(block, names)),
    ...(ending === undefined ? {} : { ending }),
    ...{ model: answer.model, usage: answer.usage },
    ...failureOf(answer.error),
  };
}

function readBlock(raw: unknown, names: ToolNames | undefined): JsonObject {
  if (typeof raw === "string") return put(format, "block", { type: "text", text: raw });
  if (!isObject(raw)) return unknownBlock(raw, format.id);
  const type = textField(raw, "type") ?? "";
  const isNamed = typeof raw.name === "string" && raw.name !== "";
  if (type.endsWith("tool_use") && isNamed) return put(format, "call", raw, { names });
  return put(format, type.endsWith("tool_result") ? "result" : "block", raw, { names });
}

type Writable = Record<string, unknown>;

export class AnthropicAssembler implements Assembler {
  #answer: JsonObject = {};
  #usage: JsonObject = {};
  #ending: string | undefined;
  #error: unknown;
  #isBroken = false;
  readonly #blocks = new Map<unknown, Writable>();
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

  add(event: JsonObject): void {
    const { type, index, delta, content_block: block } = event;
    if (isObject(event.message)) this.#answer = event.message;
    // By what it has and not by its name: a piece of text is one, whatever it is called.
    if (type === "error" || isObject(event.error)) this.#error = event.error ?? event;
    else if (block !== undefined) this.#start(index, block);
    else if (isObject(delta)) this.#addPiece(index, delta);
    this.#usage = { ...this.#usage, ...toObject(this.#answer.usage), ...toObject(event.usage) };
    this.#ending = lastText(toObject(delta).stop_reason, this.#ending);
  }

  whole(): JsonObject {
    return {
      ...this.#answer,
      content: [...this.#blocks.values()].map(withInput),
      usage: this.#usage,
      stop_reason: this.#ending,
      error: this.#error ?? (this.#isBroken ? { type: "piece_of_nothing" } : undefined),
    };
  }

  #start(index: unknown, block: unknown): void {
    const begun: Writable = isObject(block) ? structuredClone(block) : { type: "text", text: "" };
    const known = this.#blocks.get(index);
    if (known !== undefined && begun.id !== undefined && known.id === begun.id) return;
    // Another block at the same place does not replace what was said before.
    if (known !== undefined) this.#blocks.set(Symbol(), known);
    this.#blocks.set(index, begun);
    if (typeof begun.text === "string") this.#say(this.#nameOf(index), begun.text);
  }

  #addPiece(given: unknown, delta: JsonObject): void {
    const index = given ?? [...this.#blocks.keys()].at(-1);
    const known = this.#blocks.get(index);
    if (isObject(delta.citation) && known !== undefined) {
      const before: readonly unknown[] = Array.isArray(known.citations) ? known.citations : [];
      known.citations = [...before, delta.citation];
      return;
    }
    const key = PIECES.find((name) => typeof delta[name] === "string");
    if (key === undefined) return;
    const fresh: Writable = { type: key === "signature" ? "thinking" : key };
    const block = known ?? fresh;
    if (known === undefined) {
      this.#blocks.set(index, block);
      // Somebody's arguments are missing now: no call of this answer may be run.
      if (key === "partial_json") this.#isBroken = true;
    }
    const target = key === "partial_json" ? PARTIAL : key;
    block[target] = (typeof block[target] === "string" ? block[target] : "") + delta[key];
    if (key === "text") this.#say(this.#nameOf(index), String(delta.text));
  }

  #nameOf(index: unknown): string {
    return `block ${String(index)}`;
  }
}

/** Where the text of an input stands until it is whole. */
const PARTIAL = "\0partial";

/** Keys that a piece brings text under. */
const PIECES = ["text", "thinking", "signature", "partial_json", "content"];

/** Returns a block with its input as an object; as the text it is where that is none. */
function withInput(block: Writable): JsonObject {
  const { [PARTIAL]: partial, ...rest } = block;
  if (typeof partial !== "string" || partial === "") return rest;
  // Digits that JavaScript would not write back as they were stay text.
  const input = /[0-9][0-9.]{15}/.test(partial) ? undefined : parseObject(partial);
  return { ...rest, input: input ?? partial };
}
