/**
 * A conversation as a provider has to get it: step by step, each call with its result.
 *
 * One stored message may hold several steps (text, call, result, text, call, result, text), and a
 * result may be stored long after its call. Providers want the results right behind the calls.
 *
 * @module
 */

import type { Message } from "../types.ts";
import { isObject, type JsonObject, own } from "../adapters/changes/json.ts";
import { isToRun } from "./answer.ts";
import { asOf } from "./blocks.ts";

/** What one side says at a time. */
export interface Step {
  readonly role: string;
  readonly blocks: readonly JsonObject[];
  /** Results of the calls among the blocks, in the order of the calls. */
  readonly results: readonly JsonObject[];
  /** Whether reasoning of the provider's own is left out of it. */
  readonly isCut?: boolean;
}

/**
 * - `synthesize`: add the counterpart, marked with `extras.synthesized`
 * - `drop`: leave calls and results out that have no counterpart
 * - `refuse`: neither
 */
export type OrphanPolicy = "synthesize" | "drop" | "refuse";

export type OrphanReason = "call_without_result" | "result_without_call";

/** Is told of each orphan that is left out. */
export type OnOrphan = (block: JsonObject, reason: OrphanReason) => void;

/**
 * Returns the steps of V2 messages. Nothing of the input is changed.
 *
 * Ids alone say what belongs together; where one is used again, a result answers the last call
 * before it that has no answer yet.
 */
export function stepsOf(
  messages: readonly Message[],
  policy: OrphanPolicy,
  onOrphan: OnOrphan,
): Step[] {
  const { resultOf, callOf } = matchResults(messages);
  const steps: Step[] = [];
  for (const message of messages) {
    // What stands in a tool's message beside results was said by the assistant's side.
    const role = message.role === "tool" ? "assistant" : String(message.role);
    for (const blocks of splitByResults(blocksOf(message))) {
      steps.push(...stepOf(blocks, { role, resultOf, callOf, policy, onOrphan }));
    }
  }
  return steps;
}

interface Matches {
  readonly resultOf: ReadonlyMap<JsonObject, JsonObject>;
  readonly callOf: ReadonlySet<JsonObject>;
}

function matchResults(messages: readonly Message[]): Matches {
  const resultOf = new Map<JsonObject, JsonObject>();
  const callOf = new Set<JsonObject>();
  const open = new Map<unknown, JsonObject[]>();
  for (const block of messages.flatMap(blocksOf)) {
    const id = own(block, "tool_call_id");
    if (isCall(block)) open.set(id, [...open.get(id) ?? [], block]);
    if (!isResult(block)) continue;
    const call = open.get(id)?.pop();
    if (call === undefined) continue;
    resultOf.set(call, block);
    callOf.add(block);
  }
  return { resultOf, callOf };
}

/** Cuts the blocks of a message where something is said after the result of a call. */
function splitByResults(blocks: readonly JsonObject[]): JsonObject[][] {
  const parts: JsonObject[][] = [];
  let hasResult = true;
  for (const block of blocks) {
    if (hasResult && !isResult(block)) parts.push([]);
    hasResult = isResult(block);
    if (parts.length === 0) parts.push([]);
    parts.at(-1)?.push(block);
  }
  return parts;
}

interface Making extends Matches {
  readonly role: string;
  readonly policy: OrphanPolicy;
  readonly onOrphan: OnOrphan;
}

function stepOf(
  blocks: readonly JsonObject[],
  { role, resultOf, callOf, policy, onOrphan }: Making,
): Step[] {
  const results: JsonObject[] = [];
  const kept = blocks.filter((block) => {
    if (isResult(block)) return false;
    if (!isCall(block)) return true;
    const result = resultOf.get(block) ?? (policy === "synthesize" ? resultFor(block) : undefined);
    if (result === undefined) onOrphan(block, "call_without_result");
    else results.push(result);
    return result !== undefined;
  });
  const orphans = blocks.filter((block) => isResult(block) && !callOf.has(block));
  if (policy !== "synthesize") {
    for (const block of orphans) {
      onOrphan(block, "result_without_call");
    }
  }
  const steps: Step[] = kept.length === 0 ? [] : [{ role, blocks: kept, results }];
  if (policy === "synthesize" && orphans.length > 0) {
    steps.push({ role: "assistant", blocks: orphans.map(callFor), results: orphans });
  }
  return steps;
}

const SYNTHESIZED = { synthesized: true };

function resultFor({ tool_call_id, name, error }: JsonObject): JsonObject {
  const output = typeof error === "string" ? error : "No result of this call was recorded";
  return { type: "tool_result", tool_call_id, name, output, is_error: true, extras: SYNTHESIZED };
}

function callFor({ tool_call_id, name = "unknown_tool" }: JsonObject): JsonObject {
  const call = { type: "tool_call", tool_call_id, name, input: {}, state: "complete" };
  return { ...call, extras: SYNTHESIZED };
}

function blocksOf({ content }: Message): readonly JsonObject[] {
  return Array.isArray(content) ? content.filter(isObject) : [];
}

/** Whether a block is a call that any provider can be told of, and wants a result for. */
export function isCall(block: JsonObject): boolean {
  return isToRun(block) && asOf(block) === undefined;
}

/** Whether a block is the result of a call that the client ran; a provider's own is not. */
function isResult(block: JsonObject): boolean {
  return block.type === "tool_result" && asOf(block) === undefined;
}
