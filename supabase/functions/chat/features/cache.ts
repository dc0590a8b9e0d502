/**
 * Answers that may be given again: to the same user, asked exactly the same.
 *
 * @module
 */

import { isRow } from "../../_shared/crossfade/flags/snapshot.ts";
import type { Completion, ModelRequest } from "../model/model.ts";
import type { Message } from "../types.ts";

/** Returns the key of a request: a hash of everything that the answer depends on. */
export async function cacheKey(model: string, request: ModelRequest): Promise<string> {
  const turns = request.turns.map(({ role, text, toolCalls }) => ({ role, text, toolCalls }));
  const tools = request.tools.map(({ name }) => name);
  const asked = JSON.stringify([model, request.parallelTools, tools, turns]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(asked));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What is kept of an answer. */
export function toRow({ text, model, usage, finishReason }: Completion): Message {
  return { text, model, usage, finish_reason: finishReason };
}

/** Reads a kept answer; `undefined` when it is not whole. */
export function fromRow(row: Message): Completion | undefined {
  const { text, model, usage, finish_reason: finishReason } = row;
  if (typeof text !== "string" || typeof model !== "string" || !isRow(usage)) return undefined;
  const { input_tokens, output_tokens } = usage;
  if (typeof input_tokens !== "number" || typeof output_tokens !== "number") return undefined;
  return {
    text,
    model,
    usage: { input_tokens, output_tokens },
    finishReason: typeof finishReason === "string" ? finishReason : "stop",
  };
}
