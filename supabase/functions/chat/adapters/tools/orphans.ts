/**
 * Calls without a result and results without a call: kept in storage, refused by providers.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import { isObject, type JsonObject, own } from "../changes/json.ts";

/**
 * - `keep`: as it is stored
 * - `drop`: leave calls and results out that have no counterpart
 * - `synthesize`: add the counterpart, marked with `extras.synthesized`
 */
export type OrphanPolicy = "keep" | "synthesize" | "drop";

const SYNTHESIZED = { synthesized: true };

/**
 * Returns V2 messages for a provider: each result follows the message of its call, and what has no
 * counterpart is treated as told. Nothing of the input is changed.
 *
 * Ids alone say what belongs together; where one is used again, a result answers the last call
 * before it that has no answer yet.
 */
export function settleOrphans(
  messages: readonly Message[],
  policy: OrphanPolicy,
): readonly Message[] {
  if (policy === "keep") return messages;
  const { resultOf, callOf } = matchResults(messages);
  const settled: Message[] = [];
  for (const message of messages) {
    const blocks = blocksOf(message);
    const calls = blocks.filter(isCall);
    const results = blocks.filter((block) => isResult(block) && !callOf.has(block));
    if (policy === "synthesize" && results.length > 0) settled.push(callsFor(results));
    const kept = blocks.filter((block) =>
      isResult(block)
        ? policy === "synthesize" && !callOf.has(block)
        : !isCall(block) || policy === "synthesize" || resultOf.has(block)
    );
    // A message that had nothing else is gone with it.
    if (kept.length > 0 || blocks.length === 0) {
      settled.push(kept.length === blocks.length ? message : { ...message, content: kept });
    }
    settled.push(...answersTo(calls, resultOf, policy));
  }
  return settled;
}

interface Matches {
  readonly resultOf: ReadonlyMap<unknown, Answer>;
  readonly callOf: ReadonlySet<unknown>;
}

interface Answer {
  readonly block: JsonObject;
  readonly message: Message;
}

function matchResults(messages: readonly Message[]): Matches {
  const resultOf = new Map<unknown, Answer>();
  const callOf = new Set<unknown>();
  const open = new Map<unknown, JsonObject[]>();
  for (const message of messages) {
    for (const block of blocksOf(message)) {
      const id = own(block, "tool_call_id");
      if (isCall(block)) open.set(id, [...open.get(id) ?? [], block]);
      if (!isResult(block)) continue;
      const call = open.get(id)?.pop();
      if (call === undefined) continue;
      resultOf.set(call, { block, message });
      callOf.add(block);
    }
  }
  return { resultOf, callOf };
}

/** Returns the messages with the results of calls, in the order of the calls. */
function answersTo(
  calls: readonly JsonObject[],
  resultOf: ReadonlyMap<unknown, Answer>,
  policy: OrphanPolicy,
): Message[] {
  const answers: Message[] = [];
  for (const call of calls) {
    const answer = resultOf.get(call);
    if (answer !== undefined) {
      answers.push({ ...answer.message, role: "tool", content: [answer.block] });
    } else if (policy === "synthesize") {
      answers.push({ role: "tool", content: [resultFor(call)] });
    }
  }
  return answers;
}

function resultFor({ tool_call_id, name }: JsonObject): JsonObject {
  const output = "No result of this call was recorded";
  return { type: "tool_result", tool_call_id, name, output, is_error: true, extras: SYNTHESIZED };
}

function callsFor(results: readonly JsonObject[]): Message {
  const content = results.map(({ tool_call_id, name = "unknown_tool" }) => ({
    type: "tool_call",
    tool_call_id,
    name,
    input: {},
    state: "complete",
    extras: SYNTHESIZED,
  }));
  return { role: "assistant", content };
}

function blocksOf({ content }: Message): readonly JsonObject[] {
  return Array.isArray(content) ? content.filter(isObject) : [];
}

function isCall(block: JsonObject): boolean {
  return block.type === "tool_call";
}

function isResult(block: JsonObject): boolean {
  return block.type === "tool_result";
}
