/**
 * Stored messages as a model reads them.
 *
 * @module
 */

import type { ToolCall, Turn } from "../model/model.ts";
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

/** Most characters of a conversation that a model gets; compression has its own, smaller budget. */
const LONGEST_CONTEXT = 1_000_000;

/** Returns the newest turns that fit together; the last one always does. */
export function newestFitting(turns: readonly Turn[]): readonly Turn[] {
  let room = LONGEST_CONTEXT - (turns.at(-1)?.text.length ?? 0);
  let first = turns.length - 1;
  while (first > 0 && (turns[first - 1]?.text.length ?? 0) <= room) {
    room -= turns[--first]?.text.length ?? 0;
  }
  return turns.slice(Math.max(first, 0));
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
