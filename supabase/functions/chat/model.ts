/**
 * Who writes the assistant's messages: an OpenAI-compatible endpoint, or a built-in model that
 * answers the same to the same history.
 *
 * @module
 */

import { Problem } from "../_shared/crossfade/errors.ts";
import { isRow } from "../_shared/crossfade/snapshot.ts";

/** One earlier message as text. */
export interface Turn {
  readonly role: string;
  readonly text: string;
}

export interface Completion {
  readonly text: string;
  readonly model: string;
  readonly usage: { readonly input_tokens: number; readonly output_tokens: number };
  readonly finishReason: string;
}

/** @throws {Problem} 503 if the model does not answer */
export type Model = (history: readonly Turn[]) => Promise<Completion>;

export const BUILT_IN_NAME = "crossfade-echo-1";

/** Repeats the last user message and says how many it knows of: enough to see that memory works. */
export function builtInModel(history: readonly Turn[]): Promise<Completion> {
  const said = history.filter((turn) => turn.role === "user");
  const last = said.at(-1)?.text ?? "";
  const before = said.length > 1 ? ` (and ${said.length - 1} before)` : "";
  const text = last === "" ? "I am listening." : `You said: ${last}${before}`;
  const usage = {
    input_tokens: history.reduce((sum, turn) => sum + countWords(turn.text), 0),
    output_tokens: countWords(text),
  };
  return Promise.resolve({ text, model: BUILT_IN_NAME, usage, finishReason: "stop" });
}

function countWords(text: string): number {
  return text.split(/\s+/).filter((word) => word !== "").length;
}

export interface EndpointOptions {
  /** Base address, up to and including the version: `/chat/completions` is added. */
  readonly url: string;
  readonly key?: string;
  readonly name: string;
  /** @defaultValue 60000 */
  readonly timeoutMs?: number;
}

/** Returns a model that asks an OpenAI-compatible endpoint. */
export function endpointModel(options: EndpointOptions): Model {
  return async (history) => {
    const messages = history.map(({ role, text }) => ({ role, content: text }));
    const headers = new Headers({ "Content-Type": "application/json" });
    if (options.key !== undefined) headers.set("Authorization", `Bearer ${options.key}`);
    try {
      const response = await fetch(`${options.url.replace(/\/$/, "")}/chat/completions`, {
        method: "POST",
        headers,
        body: JSON.stringify({ model: options.name, messages }),
        signal: AbortSignal.timeout(options.timeoutMs ?? 60_000),
      });
      const answer: unknown = await response.json();
      if (!response.ok) throw new Error(`The model answered ${response.status}`);
      return readCompletion(answer, options.name);
    } catch (cause) {
      const detail = "The model did not answer; try again";
      const after = { "Retry-After": "5" };
      throw new Problem("upstream-unavailable", { status: 503, detail, headers: after, cause });
    }
  };
}

function readCompletion(answer: unknown, name: string): Completion {
  const choices = isRow(answer) && Array.isArray(answer.choices) ? answer.choices : [];
  const choice: unknown = choices[0];
  const message = isRow(choice) && isRow(choice.message) ? choice.message : {};
  if (typeof message.content !== "string") throw new TypeError("The model's answer has no text");
  const usage = isRow(answer) && isRow(answer.usage) ? answer.usage : {};
  return {
    text: message.content,
    model: isRow(answer) && typeof answer.model === "string" ? answer.model : name,
    usage: {
      input_tokens: whole(usage.prompt_tokens),
      output_tokens: whole(usage.completion_tokens),
    },
    finishReason: isRow(choice) && typeof choice.finish_reason === "string"
      ? choice.finish_reason
      : "stop",
  };
}

function whole(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) ? value : 0;
}
