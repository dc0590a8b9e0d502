/**
 * Answers that may be given again: to the same user, asked exactly the same.
 *
 * @module
 */

import { isRow } from "../../_shared/crossfade/flags/snapshot.ts";
import { isObject } from "../adapters/changes/json.ts";
import type { ModelAnswer } from "../formats/answer.ts";
import type { ModelRequest } from "../model/model.ts";
import type { Message } from "../types.ts";

/** Returns the key of a request: a hash of everything that the answer depends on. */
export async function cacheKey(model: string, request: ModelRequest): Promise<string> {
  const turns = request.turns.map(({ role, content }) => ({ role, content }));
  const tools = request.tools.map(({ name }) => name);
  const asked = JSON.stringify([model, request.parallelTools, tools, turns]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(asked));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What is kept of an answer in words; no other is given again. */
export function toRow({ content, model, usage, finishReason }: ModelAnswer): Message {
  return { content, model, usage, finish_reason: finishReason };
}

/** Reads a kept answer; `undefined` when it is not whole. */
export function fromRow(row: Message): ModelAnswer | undefined {
  const { content, model, usage, finish_reason: finishReason } = row;
  if (!Array.isArray(content) || typeof model !== "string" || !isRow(usage)) return undefined;
  const { input_tokens, output_tokens } = usage;
  if (typeof input_tokens !== "number" || typeof output_tokens !== "number") return undefined;
  return {
    content: content.filter(isObject),
    outcome: "answered",
    model,
    usage: { input_tokens, output_tokens },
    finishReason: typeof finishReason === "string" ? finishReason : "stop",
  };
}
