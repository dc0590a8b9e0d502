/**
 * An answer of a model, whichever provider gave it: what it said, and how it ended.
 *
 * @module
 */

import { isCount, isObject, type JsonObject, own } from "../adapters/changes/json.ts";

/**
 * - `answered`: in words; `called`: wants tools to be run
 * - `refused`: the model said no; `filtered`: somebody else did, maybe in the middle
 * - `length`: cut where no more was allowed; `paused`: to be asked again to go on
 * - `empty`: ended well and said nothing
 * - `failed`: broke off; what was received is here
 */
export type Outcome =
  | "answered"
  | "called"
  | "refused"
  | "filtered"
  | "length"
  | "paused"
  | "empty"
  | "failed";

/** Why an answer failed, in words of ours: a provider's own may name accounts and limits. */
export type Failure =
  | "model_error"
  | "stream_ended"
  | "no_answer"
  | "unreadable"
  | "too_large"
  | "timeout";

export interface Usage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly reasoning_tokens?: number;
}

export interface ModelAnswer {
  /** Blocks of a V2 message. */
  readonly content: readonly JsonObject[];
  readonly outcome: Outcome;
  /** Name of the model, where the answer says one. */
  readonly model?: string;
  readonly usage: Usage;
  /** As V2 stores it: one of its words, else what the provider said. */
  readonly finishReason: string;
  readonly failure?: Failure;
}

/** What a provider's own reader found. */
export interface RawAnswer {
  readonly content: readonly JsonObject[];
  /** What it said of the end; absent in an answer that has not ended. */
  readonly ending?: string;
  readonly model?: unknown;
  readonly usage?: unknown;
  readonly failure?: Failure;
}

const ENDINGS: ReadonlyMap<string, string> = new Map([
  ["completed", "stop"],
  ["complete", "stop"],
  ["end_turn", "stop"],
  ["eos", "stop"],
  ["eos_token", "stop"],
  ["stop_sequence", "stop"],
  ["stop", "stop"],
  ["max_tokens", "length"],
  ["max_output_tokens", "length"],
  ["model_length", "length"],
  ["model_context_window_exceeded", "length"],
  ["length", "length"],
  ["tool_use", "tool_calls"],
  ["function_call", "tool_calls"],
  ["tool_calls", "tool_calls"],
  ["safety", "content_filter"],
  ["recitation", "content_filter"],
  ["content_filter", "content_filter"],
  ["refusal", "refusal"],
  ["cancelled", "cancelled"],
  ["error", "error"],
  ["failed", "error"],
]);

const OUTCOMES: ReadonlyMap<string, Outcome> = new Map([
  ["length", "length"],
  ["content_filter", "filtered"],
  ["refusal", "refused"],
  ["pause_turn", "paused"],
  ["compaction", "paused"],
  ["cancelled", "failed"],
  ["error", "failed"],
]);

/** Returns the answer with what its end means. */
export function concluded(raw: RawAnswer): ModelAnswer {
  const reason = raw.ending === undefined
    ? "error"
    : ENDINGS.get(raw.ending.toLowerCase()) ?? raw.ending;
  const failure = raw.failure ??
    (raw.ending === undefined ? "stream_ended" : reason === "error" ? "model_error" : undefined);
  const outcome = failure !== undefined ? "failed" : OUTCOMES.get(reason) ?? spoken(raw.content);
  const content = outcome === "called" ? raw.content : raw.content.map(stopped);
  return {
    content,
    outcome,
    usage: usageOf(raw.usage),
    finishReason: outcome === "called"
      ? "tool_calls"
      : outcome === "refused"
      ? "refusal"
      : outcome === "failed" && reason !== "cancelled"
      ? "error"
      : reason,
    ...(typeof raw.model === "string" && raw.model !== "" ? { model: raw.model } : {}),
    ...(failure === undefined ? {} : { failure }),
  };
}

function spoken(content: readonly JsonObject[]): Outcome {
  // Calls go first: many servers end them with "stop".
  if (content.some(isToRun)) return "called";
  if (content.some(({ type }) => type === "refusal")) return "refused";
  const silent: readonly unknown[] = ["reasoning", "unknown"];
  const isSaid = ({ type, text }: JsonObject) => !silent.includes(type) && text !== "";
  return content.some(isSaid) ? "answered" : "empty";
}

/** Whether a block is a call that the model's client has to run. */
export function isToRun(block: JsonObject): boolean {
  return block.type === "tool_call" && block.executor !== "provider";
}

/** A call of an answer that was cut may be half of one: it is kept, and never run. */
export function stopped(block: JsonObject): JsonObject {
  if (!isToRun(block) || block.state === "error") return block;
  return { ...block, state: "error", error: "The answer ended before the call could be run" };
}

function usageOf(usage: unknown): Usage {
  const count = (...keys: readonly string[]): number | undefined => {
    const found = keys.map((key) => own(usage, key)).find(isCount);
    return found;
  };
  const details = ["completion_tokens_details", "output_tokens_details"]
    .map((key) => own(usage, key)).find(isObject);
  const reasoning = own(details, "reasoning_tokens");
  return {
    input_tokens: count("input_tokens", "prompt_tokens") ?? 0,
    output_tokens: count("output_tokens", "completion_tokens") ?? 0,
    ...(isCount(reasoning) && reasoning > 0 ? { reasoning_tokens: reasoning } : {}),
  };
}
