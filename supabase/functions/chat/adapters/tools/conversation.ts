/**
 * A stored conversation in the words of a provider.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import { isObject, type JsonObject, own, textField } from "../changes/json.ts";
import { BORDER, textOf } from "../changes/text.ts";
import { show, type ToolFormat } from "./format.ts";
import type { ToolNames } from "./names.ts";
import { type OrphanPolicy, settleOrphans } from "./orphans.ts";

export interface ExportOptions {
  readonly names: ToolNames;
  /** @defaultValue `synthesize`: providers refuse a call without a result */
  readonly orphans?: OrphanPolicy;
}

/**
 * Returns V2 messages for a provider: text, calls, results and, for Anthropic, signed reasoning.
 *
 * Blocks that a provider has no words for are left out here and stay in storage.
 */
export function exportConversation(
  format: ToolFormat,
  messages: readonly Message[],
  { names, orphans = "synthesize" }: ExportOptions,
): JsonObject[] {
  const write = WRITERS[format.id];
  if (write === undefined) throw new TypeError(`Cannot send a conversation as "${format.id}"`);
  return settleOrphans(messages, orphans).flatMap((message) => {
    const kinds = { tool_call: "call", tool_result: "result" } as const;
    const showBlock = (block: JsonObject): JsonObject =>
      show(format, kinds[block.type as keyof typeof kinds], block, names);
    return write(message, { blocks: blocksOf(message), showBlock });
  });
}

interface Parts {
  readonly blocks: readonly JsonObject[];
  /** Writes a call or a result. */
  readonly showBlock: (block: JsonObject) => JsonObject;
}

type Writer = (message: Message, parts: Parts) => JsonObject[];

const WRITERS: Readonly<Record<string, Writer>> = {
  openai_chat: writeChat,
  openai_responses: writeResponses,
  anthropic: writeAnthropic,
};

function writeChat({ role }: Message, { blocks, showBlock }: Parts): JsonObject[] {
  const results = blocks.filter(isResult).map(showBlock);
  const calls = blocks.filter(isCall).map(showBlock);
  const text = textsOf(blocks);
  if (text === undefined && calls.length === 0) return results;
  const tool_calls = calls.length === 0 ? {} : { tool_calls: calls };
  return [{ role, content: text ?? null, ...tool_calls }, ...results];
}

function writeResponses({ role }: Message, { blocks, showBlock }: Parts): JsonObject[] {
  const words = role === "assistant" ? "output_text" : "input_text";
  return blocks.flatMap((block): JsonObject[] => {
    if (isCall(block) || isResult(block)) return [showBlock(block)];
    const text = textOf(block, "content", role);
    return text === undefined ? [] : [{ type: "message", role, content: [{ type: words, text }] }];
  });
}

/** Results stand in a message of the user; what a system says is for the caller to put apart. */
function writeAnthropic({ role }: Message, { blocks, showBlock }: Parts): JsonObject[] {
  const content = blocks.flatMap((block): JsonObject[] => {
    if (isCall(block) || isResult(block)) return [showBlock(block)];
    if (block.type === "reasoning") return thinking(block);
    const text = textOf(block, "content", role);
    return text === undefined || text === "" ? [] : [{ type: "text", text }];
  });
  return content.length === 0 ? [] : [{ role: role === "tool" ? "user" : role, content }];
}

/** Signed thinking goes back to the byte, or not at all: a provider refuses any change. */
function thinking(block: JsonObject): JsonObject[] {
  if (own(block.extras, "stale") === true) return [];
  const encrypted = textField(block, "encrypted");
  if (encrypted !== undefined) return [{ type: "redacted_thinking", data: encrypted }];
  const signature = textField(block, "signature");
  if (signature === undefined) return [];
  return [{ type: "thinking", thinking: textField(block, "text") ?? "", signature }];
}

function textsOf(blocks: readonly JsonObject[]): string | undefined {
  const texts = blocks.map((block) => textOf(block, "content", undefined))
    .filter((text) => text !== undefined);
  return texts.length === 0 ? undefined : texts.join(BORDER);
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
