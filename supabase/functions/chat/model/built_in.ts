/**
 * A model that answers the same to the same conversation: for tests, the demo, and a first look.
 *
 * It repeats the last user message and shows what it was given: how many messages came before, the
 * facts and the summary it was told, and what tools answered. That is enough to see every feature.
 *
 * @module
 */

import type { JsonObject } from "../adapters/changes/json.ts";
import { isToRun, type ModelAnswer } from "../formats/answer.ts";
import { putCall } from "../adapters/changes/items.ts";
import { type ModelRequest, type Turn, wordsOf } from "./model.ts";

export const BUILT_IN_NAME = "crossfade-echo-1";

const NOTHING: Turn = { role: "user", content: [] };

/** When it calls which tool, and with what. */
const CUES: readonly { readonly name: string; readonly cue: RegExp; readonly argument?: string }[] =
  [
    { name: "clock", cue: /\bwhat time\b/i },
    { name: "calculator", cue: /\bcalculate ([0-9+\-*/().\s]*[0-9)])/i, argument: "expression" },
    { name: "search_messages", cue: /\bsearch for "([^"]+)"/i, argument: "query" },
  ];

/** Answers at once; tools are called when the last user message has their cue. */
export function builtInModel(request: ModelRequest): Promise<ModelAnswer> {
  const { turns } = request;
  const last = wordsOf(turns.findLast((turn) => turn.role === "user") ?? NOTHING);
  const since = turns.slice(turns.findLastIndex((turn) => turn.role === "user") + 1);
  const calls = callsFor(request, last, since);
  const text = calls.length > 0 ? "" : answer(turns, last, since);
  for (const piece of text.match(/\S+\s*/g) ?? []) request.onText?.(piece);
  const usage = {
    input_tokens: turns.reduce((sum, turn) => sum + countWords(wordsOf(turn)), 0),
    output_tokens: countWords(text),
  };
  const said = calls.length > 0
    ? { content: calls, outcome: "called", finishReason: "tool_calls" } as const
    : { content: [{ type: "text", text }], outcome: "answered", finishReason: "stop" } as const;
  return Promise.resolve({ ...said, model: BUILT_IN_NAME, usage });
}

function callsFor(
  { tools, parallelTools }: ModelRequest,
  said: string,
  since: readonly Turn[],
): JsonObject[] {
  const made = since.flatMap((turn) => turn.content.filter(isToRun)).map((call) => call.name);
  const calls = CUES.flatMap(({ name, cue, argument }) => {
    const found = cue.exec(said);
    if (found === null || made.includes(name) || !tools.some((tool) => tool.name === name)) {
      return [];
    }
    const input = argument === undefined ? {} : { [argument]: (found[1] ?? "").trim() };
    const id = `call_${name}_${since.length}`;
    const block = { type: "tool_call", tool_call_id: id, state: "pending" };
    return [putCall({ name, arguments: JSON.stringify(input) }, block)];
  });
  return parallelTools ? calls : calls.slice(0, 1);
}

function answer(turns: readonly Turn[], last: string, since: readonly Turn[]): string {
  if (last === "") return "I am listening.";
  const before = turns.filter((turn) => turn.role === "user").length - 1;
  const told = turns.filter((turn) => turn.role === "system" && turn.id === undefined);
  const results = since.filter((turn) => turn.role === "tool").map((turn) => `[${wordsOf(turn)}]`);
  return [
    `You said: ${last}${before > 0 ? ` (and ${before} before)` : ""}`,
    ...told.map((turn) => `{${wordsOf(turn)}}`),
    ...results,
  ].join(" ");
}

function countWords(text: string): number {
  return text.split(/\s+/).filter((word) => word !== "").length;
}
