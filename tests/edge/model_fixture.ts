/**
 * Answers of a model as the function gets them, and calls in them.
 *
 * @module
 */

import { putCall } from "../../supabase/functions/chat/adapters/changes/items.ts";
import type { ModelAnswer } from "../../supabase/functions/chat/formats/answer.ts";

type Row = Readonly<Record<string, unknown>>;

/** An answer that wants tools when it has calls. */
export function answering(text: string, calls: readonly Row[] = []): ModelAnswer {
  return {
    content: [...(text === "" ? [] : [{ type: "text", text }]), ...calls],
    outcome: calls.length > 0 ? "called" : "answered",
    model: "m",
    usage: { input_tokens: 1, output_tokens: 1 },
    finishReason: calls.length > 0 ? "tool_calls" : "stop",
  };
}

/** The block of a call as a model asks for it. */
export function calling(id: string, name: string, given = "{}"): Row {
  const block = { type: "tool_call", tool_call_id: id, state: "pending" };
  return putCall({ name, arguments: given }, block);
}
