/**
 * Stored messages as a model reads them.
 *
 * @module
 */

import type { ToolCall, Turn } from "../model.ts";
import type { Message } from "../types.ts";
import { isObject } from "../handlers/format.ts";

/** Reads a turn from a V2 message. */
export function readTurn(message: Message): Turn {
  const blocks = Array.isArray(message.content) ? message.content.filter(isObject) : [];
  const id = String(message.id);
  const result = blocks.find((block) => block.type === "tool_result");
  if (message.role === "tool" && result !== undefined) {
    const { output } = result;
    const text = typeof output === "string" ? output : JSON.stringify(output ?? null);
    return { role: "tool", text, id, toolCallId: String(result.tool_call_id) };
  }
  const texts = blocks.filter((block) => block.type === "text").map((block) => String(block.text));
  const toolCalls = blocks.filter((block) => block.type === "tool_call").map(readCall);
  const role = String(message.role);
  return { role, text: texts.join("\n\n"), id, ...(toolCalls.length > 0 ? { toolCalls } : {}) };
}

function readCall(block: Message): ToolCall {
  const { arguments_raw: raw, input } = block;
  return {
    id: String(block.tool_call_id),
    name: String(block.name),
    arguments: typeof raw === "string" ? raw : JSON.stringify(input ?? {}),
  };
}

/**
 * Leaves out calls without their results and results without their call, which a window over the
 * conversation cuts apart; providers refuse a conversation with either.
 */
export function pairUp(turns: readonly Turn[]): Turn[] {
  const kept: Turn[] = [];
  for (let place = 0; place < turns.length; place++) {
    const turn = turns[place];
    if (turn === undefined || turn.role === "tool") continue;
    const calls = turn.toolCalls ?? [];
    if (calls.length === 0) {
      kept.push(turn);
      continue;
    }
    const results: Turn[] = [];
    while (turns[place + 1]?.role === "tool") {
      const result = turns[++place];
      if (result !== undefined) results.push(result);
    }
    const answered = calls.filter((call) => results.some((r) => r.toolCallId === call.id));
    const { toolCalls: _, ...plain } = turn;
    if (answered.length > 0) {
      const wanted = results.filter((r) => answered.some((call) => call.id === r.toolCallId));
      kept.push({ ...turn, toolCalls: answered }, ...wanted);
    } else if (turn.text !== "") kept.push(plain);
  }
  return kept;
}
