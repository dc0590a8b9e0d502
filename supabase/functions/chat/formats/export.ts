/**
 * A stored conversation in the words of a provider, and what of it could not be sent.
 *
 * @module
 */

import type { Message } from "../types.ts";
import { type JsonObject, own, textField } from "../adapters/changes/json.ts";
import { writeAnthropic } from "./anthropic_messages.ts";
import { asOf } from "./blocks.ts";
import { writeChat } from "./chat_messages.ts";
import { type Kind, show, type ToolFormat } from "./format.ts";
import { isMedia } from "./media.ts";
import { ToolNames } from "./names.ts";
import { writeResponses } from "./responses_items.ts";
import { isCall, type OrphanPolicy, type OrphanReason, type Step, stepsOf } from "./steps.ts";

/** Why a block is not sent. */
export type Reason =
  | OrphanReason
  /** Only its own provider can read it. */
  | "other_provider"
  /** Its text was edited: the signature is of the old one. */
  | "edited_reasoning"
  /** Nothing proves to a provider that it is its own. */
  | "unsigned_reasoning"
  /** Wanted back only while its turn goes on. */
  | "reasoning_of_earlier_turn"
  /** What was to follow it is not sent. */
  | "reasoning_without_what_followed"
  /** The provider refuses text of blanks only. */
  | "empty_text"
  /** The provider has no words for such a thing. */
  | "no_words";

export interface Omission {
  readonly block: JsonObject;
  readonly reason: Reason;
}

export interface ExportOptions {
  readonly names: ToolNames;
  /** @defaultValue `synthesize`: providers refuse a call without a result */
  readonly orphans?: OrphanPolicy;
  /** Whether what cannot be sent is left out, or makes the export fail. @defaultValue `omit` */
  readonly loss?: "omit" | "refuse";
  /** Whether texts of one message become one string: not every server takes lists. */
  readonly joinTexts?: boolean;
}

export interface Exported {
  readonly messages: readonly JsonObject[];
  /** What the system says, where the provider wants it apart from the messages. */
  readonly system: readonly JsonObject[];
  readonly omitted: readonly Omission[];
  /** Returns the stored id of a call by the one it was sent under. */
  readonly idOf: (wireId: string) => string;
}

/** A conversation with a part that the provider would refuse. */
export class ExportError extends Error {
  override readonly name = "ExportError";
  readonly omission: Omission;

  constructor(omission: Omission) {
    super(`Cannot send a block of type "${omission.block.type}": ${omission.reason}`);
    this.omission = omission;
  }
}

/** How blocks are said in the format that is written. */
export interface Words {
  /** Writes any block; calls and results under the id that the provider allows. */
  readonly say: (block: JsonObject) => JsonObject;
  readonly omit: (block: JsonObject, reason: Reason) => void;
  /** The provider that a block was made by; `undefined` for what is everybody's. */
  readonly makerOf: (block: JsonObject) => string | undefined;
  readonly joinTexts: boolean;
  /** Whether the turn that a step belongs to goes on. */
  readonly isOpen: (step: Step) => boolean;
}

interface Written {
  readonly messages: readonly JsonObject[];
  readonly system?: readonly JsonObject[];
}

interface Writer {
  readonly longestId: number;
  readonly write: (steps: readonly Step[], words: Words) => Written;
}

const WRITERS: Readonly<Record<string, Writer | undefined>> = {
  openai_chat: { longestId: 40, write: writeChat },
  openai_responses: { longestId: 64, write: writeResponses },
  anthropic: { longestId: 64, write: writeAnthropic },
};

/**
 * Returns V2 messages for a provider, in the order of the conversation: what it would refuse is left
 * out by name, and stays in storage.
 *
 * @throws {ExportError} if something is left out and `loss` is `refuse`, or an orphan is and its
 * policy is
 */
export function exportConversation(
  format: ToolFormat,
  messages: readonly Message[],
  { names, orphans = "synthesize", loss = "omit", joinTexts = false }: ExportOptions,
): Exported {
  const writer = WRITERS[format.id];
  if (writer === undefined) throw new TypeError(`Cannot send a conversation as "${format.id}"`);
  const omitted: Omission[] = [];
  const omit = (block: JsonObject, reason: Reason): void => {
    const isOrphan = reason === "call_without_result" || reason === "result_without_call";
    const omission = { block, reason };
    if (loss === "refuse" || (isOrphan && orphans === "refuse")) throw new ExportError(omission);
    omitted.push(omission);
  };
  const steps = stepsOf(messages, orphans, omit)
    .map((step) => sendable(format.id, step, omit))
    .filter(({ blocks }) => blocks.length > 0);
  const ids = idsOf(steps, writer.longestId);
  const open = steps.slice(steps.findLastIndex(({ role }) => role !== "assistant") + 1);
  const { messages: written, system = [] } = writer.write(steps, {
    say: (block) => show(format, kindOf(block), ids.onWire(block), names),
    omit,
    makerOf,
    joinTexts,
    isOpen: (step) => open.includes(step),
  });
  return { messages: written, system, omitted, idOf: ids.idOf };
}

function kindOf({ type }: JsonObject): Kind {
  return type === "tool_call" ? "call" : type === "tool_result" ? "result" : "block";
}

/** Blocks that every provider has words for. */
const SHARED: ReadonlySet<unknown> = new Set(["text", "refusal", "tool_call", "tool_result"]);

/** Returns a step without the blocks that are of another provider, or of nobody's words. */
function sendable(format: string, step: Step, omit: Words["omit"]): Step {
  const blocks = step.blocks.filter((block) => {
    const maker = makerOf(block);
    const reason = maker !== undefined && maker !== format
      ? "other_provider"
      : own(block.extras, "stale") === true && block.type === "reasoning"
      ? "edited_reasoning"
      : block.type === "reasoning" && maker === undefined
      ? "unsigned_reasoning"
      : SHARED.has(block.type) || isMedia(block) || maker !== undefined
      ? undefined
      : "no_words";
    if (reason !== undefined) omit(block, reason);
    return reason === undefined;
  });
  const calls = blocks.filter(isCall);
  // A call that is left out takes its result along.
  const results = step.results.filter((_, place) => calls.includes(callsOf(step)[place] ?? {}));
  const isCut = step.blocks.some((block) => block.type === "reasoning" && !blocks.includes(block));
  return { ...step, blocks, results, isCut };
}

function callsOf({ blocks }: Step): readonly JsonObject[] {
  return blocks.filter(isCall);
}

function makerOf(block: JsonObject): string | undefined {
  const named = textField(block, "provider") ?? textField(block.extras, "provider");
  if (block.type === "reasoning") return named ?? makerOfReasoning(block);
  if (asOf(block) !== undefined || block.type === "unknown") return named;
  return undefined;
}

/** Reasoning that was stored before providers were: only by what it has. */
function makerOfReasoning(block: JsonObject): string | undefined {
  if (textField(block, "id")?.startsWith("rs_") === true) return "openai_responses";
  return textField(block, "signature") === undefined ? undefined : "anthropic";
}

/** Each call gets an id that the provider takes and no other call has. */
function idsOf(steps: readonly Step[], longest: number) {
  const keys = new Map<JsonObject, string>();
  const known = new Set<string>();
  for (const step of steps) {
    for (const [place, call] of callsOf(step).entries()) {
      const id = textField(call, "tool_call_id") || "call";
      let key = id;
      // Servers that count from zero in each turn give the same id again.
      for (let number = 2; known.has(key); number++) key = `${id}\0${number}`;
      known.add(key);
      keys.set(call, key);
      const result = step.results[place];
      if (result !== undefined) keys.set(result, key);
    }
  }
  const aliases = new ToolNames(known, longest);
  return {
    onWire(block: JsonObject): JsonObject {
      const key = keys.get(block);
      const id = key === undefined ? undefined : aliases.toWire(key);
      return id === undefined || id === block.tool_call_id ? block : { ...block, tool_call_id: id };
    },
    idOf: (wireId: string): string => aliases.fromWire(wireId).split("\0")[0] ?? "",
  };
}
