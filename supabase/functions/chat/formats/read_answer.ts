/**
 * Reads the answer of a model, whichever provider gives it and however: whole or as a stream.
 *
 * @module
 */

import { equal, isObject, type JsonObject, textField } from "../adapters/changes/json.ts";
import { readEvents } from "../../_shared/crossfade/http/sse.ts";
import { concluded, type Failure, isToRun, type ModelAnswer, type RawAnswer } from "./answer.ts";
import { AnthropicAssembler, readAnthropic } from "./anthropic_answer.ts";
import { type Assembler, type Say, Teller } from "./assembler.ts";
import { ChatAssembler, readChat } from "./chat_answer.ts";
import { storableBlocks } from "./gate.ts";
import type { ToolNames } from "./names.ts";
import { readResponses, ResponsesAssembler } from "./responses_answer.ts";

// No chat needs more, and a model that talks without end must not fill the memory.
const LARGEST_BODY = 8 * 1024 * 1024;

export interface ReadOptions {
  readonly names?: ToolNames | undefined;
  /** Called with each piece of text as it arrives. */
  readonly onText?: ((text: string) => void) | undefined;
}

interface Dialect {
  readonly read: (answer: JsonObject, names?: ToolNames) => RawAnswer;
  readonly assembler: (say: Say) => Assembler;
}

const CHAT: Dialect = { read: readChat, assembler: (say) => new ChatAssembler(say) };
const RESPONSES: Dialect = {
  read: readResponses,
  assembler: (say) => new ResponsesAssembler(say),
};
const ANTHROPIC: Dialect = {
  read: readAnthropic,
  assembler: (say) => new AnthropicAssembler(say),
};

/** Tells a dialect by what only it has, whatever else is missing; `undefined` when nothing is there. */
function dialectOf(body: JsonObject): Dialect | undefined {
  const { choices, object, output, response, item, delta, content, message } = body;
  const type = textField(body, "type") ?? "";
  if (choices !== undefined) return CHAT;
  const isResponses = type.startsWith("response.") || object === "response" ||
    [output, response, item].some((part) => typeof part === "object" && part !== null) ||
    typeof delta === "string";
  if (isResponses) return RESPONSES;
  const isAnthropic = /^(message|content_block)/.test(type) || content !== undefined ||
    [body.content_block, delta, message].some(isObject);
  return isAnthropic ? ANTHROPIC : undefined;
}

/** Reads a whole answer. Never throws: what cannot be read is an outcome. */
export function readAnswer(body: unknown, { names, onText }: ReadOptions = {}): ModelAnswer {
  if (!isObject(body)) return finished({ content: [], failure: "unreadable" });
  const raw = readRaw(dialectOf(body) ?? CHAT, body, names);
  const answer = finished(
    raw.ending === undefined && raw.failure === undefined
      ? { ...raw, failure: raw.content.length === 0 ? "no_answer" : "stream_ended" }
      : raw,
  );
  const teller = new Teller(onText);
  for (const [place, { type, text }] of answer.content.entries()) {
    const isSaid = (type === "text" || type === "refusal") && typeof text === "string";
    if (isSaid) teller.say(place, text);
  }
  return answer;
}

function readRaw({ read }: Dialect, body: JsonObject, names: ToolNames | undefined): RawAnswer {
  try {
    return read(body, names);
  } catch (error) {
    // Deeper than the stack.
    return { content: [], failure: failureFrom(error) };
  }
}

/** Reads an answer of text, whole or events. Never throws either. */
export async function readBody(
  body: ReadableStream<Uint8Array>,
  options: ReadOptions & { readonly isStream: boolean },
): Promise<ModelAnswer> {
  return options.isStream ? await readStream(body, options) : await readText(body, options);
}

async function readText(
  body: ReadableStream<Uint8Array>,
  options: ReadOptions,
): Promise<ModelAnswer> {
  try {
    const text = await new Response(limited(body)).text();
    // A server that was asked for no stream may send one all the same, and say nothing of it.
    if (/^\s*(?:event|data|id|retry)?:/.test(text)) {
      return await readStream(new Response(text).body ?? body, options);
    }
    return readAnswer(JSON.parse(text), options);
  } catch (error) {
    return finished({ content: [], failure: failureFrom(error) });
  }
}

async function readStream(
  body: ReadableStream<Uint8Array>,
  { names, onText }: ReadOptions,
): Promise<ModelAnswer> {
  const teller = new Teller(onText);
  let dialect: Dialect | undefined;
  let assembler: Assembler | undefined;
  const early: JsonObject[] = [];
  let isDone = false;
  let failure: Failure | undefined;
  try {
    for await (const { event, data } of readEvents(limited(body))) {
      if (data.trim() === "[DONE]") {
        isDone = true;
        break;
      }
      const value: unknown = JSON.parse(data);
      if (!isObject(value)) continue;
      dialect ??= dialectOf(value);
      assembler ??= dialect?.assembler(teller.say);
      early.push(value);
      // What came before anything told the dialect is of it as well.
      if (assembler !== undefined) { for (const body of early.splice(0)) assembler.add(body); }
      const isError = event === "error" || value.object === "error" || value.type === "error";
      if (isError || assembler?.failed === true) failure = "model_error";
      if (failure !== undefined) break;
    }
  } catch (error) {
    failure = failureFrom(error);
  }
  teller.end();
  if (dialect === undefined || assembler === undefined) {
    return finished({ content: [], failure: failure ?? "no_answer" });
  }
  const raw = readRaw(dialect, assembler.whole(), names);
  // One that says it is done has ended, also without saying how.
  const ending = raw.ending ?? (isDone && raw.content.length > 0 ? "stop" : undefined);
  // What comes after the end changes nothing of it.
  const broken = assembler.ended && failure !== "model_error" ? undefined : failure;
  return finished({
    ...raw,
    ...(ending === undefined ? {} : { ending }),
    ...(broken === undefined ? {} : { failure: broken }),
  });
}

function failureFrom(error: unknown): Failure {
  if (error instanceof SyntaxError) return "unreadable";
  if (error instanceof RangeError) return "too_large";
  const isLate = error instanceof DOMException &&
    (error.name === "TimeoutError" || error.name === "AbortError");
  return isLate ? "timeout" : "stream_ended";
}

/** Ends a body that is too large, and the last event of one that ends without an empty line. */
function limited(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  let room = LARGEST_BODY;
  return body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        room -= chunk.byteLength;
        if (room < 0) throw new RangeError(`An answer is larger than ${LARGEST_BODY} bytes`);
        controller.enqueue(chunk);
      },
      flush: (controller) => controller.enqueue(new TextEncoder().encode("\n\n")),
    }),
  );
}

function finished(raw: RawAnswer): ModelAnswer {
  return concluded({ ...raw, content: storableBlocks(withIds(raw.content)) });
}

/** Gives each call an id of its own: results are found by it. One that is said twice is one. */
function withIds(content: readonly JsonObject[]): readonly JsonObject[] {
  const used = new Map<unknown, JsonObject>();
  return content.flatMap((block, place) => {
    if (!isToRun(block)) return [block];
    const { tool_call_id: given } = block;
    if (given !== "" && equal(used.get(given), block)) return [];
    const base = given === "" ? `call_${place}` : given;
    let id = base;
    for (let number = 2; used.has(id); number++) id = `${base}_${number}`;
    used.set(id, block);
    return [id === given ? block : { ...block, tool_call_id: id }];
  });
}
