/**
 * A model behind an OpenAI-compatible endpoint, asked once: no retries, and within a time limit.
 *
 * @module
 */

import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { isRow, type Row } from "../../_shared/crossfade/flags/snapshot.ts";
import type { Completion, Model, ModelRequest, ToolCall, Turn } from "./model.ts";
import { readEvents } from "../../_shared/crossfade/http/sse.ts";

// No chat needs more, and a model that talks without end must not fill the memory.
const LONGEST_ANSWER = 1_000_000;

export interface EndpointOptions {
  /** Base address, up to and including the version: `/chat/completions` is added. */
  readonly url: string;
  readonly key?: string;
  readonly name: string;
  /** Longest wait for the whole answer. @defaultValue 60000 */
  readonly timeoutMs?: number;
}

/** Returns a model that asks an OpenAI-compatible endpoint; it streams when pieces are wanted. */
export function endpointModel(options: EndpointOptions): Model {
  const url = `${options.url.replace(/\/$/, "")}/chat/completions`;
  const headers = new Headers({ "Content-Type": "application/json" });
  if (options.key !== undefined) headers.set("Authorization", `Bearer ${options.key}`);
  return async (request) => {
    const limit = AbortSignal.timeout(options.timeoutMs ?? 60_000);
    const signal = request.signal === undefined ? limit : AbortSignal.any([limit, request.signal]);
    const body = JSON.stringify(requestBody(request, options.name));
    try {
      const response = await fetch(url, { method: "POST", headers, body, signal });
      if (!response.ok) {
        await response.body?.cancel();
        throw new Error(`The model answered ${response.status}`);
      }
      const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
      return isStream === true && response.body !== null
        ? await readStream(response.body, request, options.name)
        : readCompletion(await response.json(), request, options.name);
    } catch (cause) {
      const detail = "The model did not answer; try again";
      const after = { "Retry-After": "5" };
      throw new Problem("upstream-unavailable", { status: 503, detail, headers: after, cause });
    }
  };
}

function requestBody(request: ModelRequest, name: string): Row {
  const { turns, tools, parallelTools, onText } = request;
  const functions = tools.map(({ name, description, input_schema }) => ({
    type: "function",
    function: { name, description, parameters: input_schema },
  }));
  return {
    model: name,
    messages: turns.map(wireTurn),
    ...(functions.length === 0 ? {} : { tools: functions, parallel_tool_calls: parallelTools }),
    ...(onText === undefined ? {} : { stream: true, stream_options: { include_usage: true } }),
  };
}

function wireTurn({ role, text, toolCalls = [], toolCallId }: Turn): Row {
  if (role === "tool") return { role, tool_call_id: toolCallId ?? "", content: text };
  if (toolCalls.length === 0) return { role, content: text };
  const tool_calls = toolCalls.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: given },
  }));
  return { role, content: text === "" ? null : text, tool_calls };
}

function readCompletion(answer: unknown, request: ModelRequest, name: string): Completion {
  const choice = firstChoice(answer);
  const message = isRow(choice.message) ? choice.message : {};
  const draft = new Draft(name, request.onText);
  draft.addText(message.content);
  draft.addCalls(message.tool_calls);
  draft.finish(answer, choice);
  return draft.completion();
}

async function readStream(
  body: ReadableStream<Uint8Array>,
  request: ModelRequest,
  name: string,
): Promise<Completion> {
  const draft = new Draft(name, request.onText);
  let done = false;
  for await (const { data } of readEvents(body)) {
    if (data === "[DONE]") {
      done = true;
      break;
    }
    const chunk: unknown = JSON.parse(data);
    if (isRow(chunk) && isRow(chunk.error)) throw new Error("The model broke off with an error");
    const choice = firstChoice(chunk);
    const delta = isRow(choice.delta) ? choice.delta : {};
    draft.addText(delta.content);
    draft.addCalls(delta.tool_calls);
    draft.finish(chunk, choice);
  }
  // Half an answer must not be stored as a whole one.
  if (!done && !draft.finished) throw new Error("The model's stream ended before its answer did");
  return draft.completion();
}

function firstChoice(answer: unknown): Row {
  const choices = isRow(answer) && Array.isArray(answer.choices) ? answer.choices : [];
  const choice: unknown = choices[0];
  return isRow(choice) ? choice : {};
}

/** A completion while its pieces arrive. */
class Draft {
  finished = false;
  #text = "";
  #said = false;
  #model: string;
  #reason = "stop";
  #usage = { input_tokens: 0, output_tokens: 0 };
  readonly #calls: { id: string; name: string; arguments: string }[] = [];
  readonly #onText: ModelRequest["onText"];

  constructor(name: string, onText: ModelRequest["onText"]) {
    this.#model = name;
    this.#onText = onText;
  }

  addText(piece: unknown): void {
    if (typeof piece !== "string") return;
    this.#said = true;
    // What PostgreSQL cannot store must not fail a whole answer.
    const text = piece.replaceAll("\0", "\ufffd").toWellFormed();
    this.#text += text;
    if (this.#text.length > LONGEST_ANSWER) throw new RangeError("The model's answer is too long");
    if (text !== "") this.#onText?.(text);
  }

  addCalls(calls: unknown): void {
    if (!Array.isArray(calls)) return;
    for (const [place, call] of calls.filter(isRow).entries()) {
      const index = typeof call.index === "number" ? call.index : place;
      if (index < 0 || index > 31) throw new Error("The model calls more than 32 tools at once");
      while (this.#calls.length <= index) this.#calls.push({ id: "", name: "", arguments: "" });
      const known = this.#calls[index];
      const part = isRow(call.function) ? call.function : {};
      if (known === undefined) continue;
      if (typeof call.id === "string") known.id = call.id;
      if (typeof part.name === "string") known.name += part.name;
      if (typeof part.arguments === "string") known.arguments += part.arguments;
    }
  }

  finish(answer: unknown, choice: Row): void {
    if (typeof choice.finish_reason === "string") {
      this.#reason = choice.finish_reason;
      this.finished = true;
    }
    if (!isRow(answer)) return;
    if (typeof answer.model === "string") this.#model = answer.model;
    if (!isRow(answer.usage)) return;
    const { prompt_tokens, completion_tokens } = answer.usage;
    this.#usage = { input_tokens: whole(prompt_tokens), output_tokens: whole(completion_tokens) };
  }

  completion(): Completion {
    const toolCalls: ToolCall[] = this.#calls.filter((call) => call.name !== "")
      .map((call, i) => ({ ...call, id: call.id === "" ? `call_${i}` : call.id }));
    if (!this.#said && toolCalls.length === 0) {
      throw new TypeError("The model's answer has no text");
    }
    return {
      text: this.#text,
      toolCalls,
      model: this.#model,
      usage: this.#usage,
      finishReason: this.#reason,
    };
  }
}

function whole(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : 0;
}
