/**
 * Steps of a conversation as items of Responses.
 *
 * @module
 */

import { isObject, type JsonObject, own, textField } from "../adapters/changes/json.ts";
import { isCustom } from "./blocks.ts";
import type { Words } from "./export.ts";
import { isMedia, writeResponsesMedia } from "./media.ts";
import { isCall, type Step } from "./steps.ts";

export function writeResponses(steps: readonly Step[], words: Words) {
  const told = new Set(steps.flatMap(({ blocks }) => blocks.map(({ raw }) => own(raw, "call_id"))));
  const messages = steps.flatMap((step) =>
    step.role === "assistant" ? writeAssistant(step, words, told) : writeOther(step, words)
  );
  return { messages };
}

function writeOther({ role, blocks }: Step, words: Words): JsonObject[] {
  const content = blocks.flatMap((block): JsonObject[] => {
    if (isMedia(block)) {
      const shown = writeResponsesMedia(block);
      if (shown === undefined) words.omit(block, "no_words");
      return shown === undefined ? [] : [shown];
    }
    const text = textField(block, "text");
    return text === undefined ? [] : [{ type: "input_text", text }];
  });
  return content.length === 0 ? [] : [{ type: "message", role, content }];
}

function writeAssistant(
  { blocks, results, isCut }: Step,
  words: Words,
  told: ReadonlySet<unknown>,
): JsonObject[] {
  const items: JsonObject[] = [];
  const known = blocks.filter((block) => isKnown(block, { words, told }));
  const sent = known.filter((block, place) => isProven(block, known.slice(place + 1), words));
  // By its id the provider knows that an item had reasoning, and would ask for it.
  const hasIds = isCut !== true && sent.length === blocks.length;
  for (const [place, block] of sent.entries()) {
    const before = sent[place - 1];
    if (block.type === "text" || block.type === "refusal") {
      const last = items.at(-1);
      const isSame = hasIds && block.id !== undefined && before !== undefined &&
        last?.type === "message" &&
        last.id === block.id && before.id === block.id;
      if (isSame) (last.content as JsonObject[]).push(words.say(block));
      else items.push(messageOf(block, { words, hasIds }));
    } else items.push(plainItem(block, { words, hasIds }));
  }
  const calls = blocks.filter(isCall);
  return [
    ...items,
    ...results.map((result, place) => outputOf(words.say(result), calls[place] ?? {})),
  ];
}

/** Whether the provider has words for a block. */
function isKnown(
  block: JsonObject,
  { words, told }: { readonly words: Words; readonly told: ReadonlySet<unknown> },
): boolean {
  // A call of the provider's own kind wants an output of that kind, which nobody can make up.
  const isOpen = block.type === "tool_call" && !isCall(block) && block.executor === "client" &&
    !told.has(block.tool_call_id);
  if (isOpen) words.omit(block, "call_without_result");
  else if (isMedia(block)) words.omit(block, "no_words");
  return !isOpen && !isMedia(block);
}

/** Whether reasoning may be sent: it is refused without proof, or without what was thought for. */
function isProven(block: JsonObject, after: readonly JsonObject[], words: Words): boolean {
  if (block.type !== "reasoning") return true;
  const hasProof = textField(block, "encrypted") !== undefined ||
    textField(block, "id")?.startsWith("rs_") === true;
  const isFollowed = after.some(({ type }) => type !== "reasoning");
  if (hasProof && isFollowed) return true;
  words.omit(block, hasProof ? "reasoning_without_what_followed" : "unsigned_reasoning");
  return false;
}

interface Writing {
  readonly words: Words;
  readonly hasIds: boolean;
}

/** A message; its id only where it is one of the provider's. */
function messageOf(block: JsonObject, { words, hasIds }: Writing): JsonObject {
  const kept = own(block.extras, "item");
  const item = isObject(kept) ? kept : {};
  const id = textField(block, "id");
  const known = hasIds && id?.startsWith("msg_") === true
    ? { id, status: "completed", ...item }
    : {};
  return { type: "message", role: "assistant", ...known, content: [words.say(block)] };
}

/** An item without an id that the provider did not give. */
function plainItem(block: JsonObject, { words, hasIds }: Writing): JsonObject {
  const item = words.say(block);
  if (block.type !== "tool_call" || !isCall(block)) return item;
  const id = textField(item, "id");
  const isTheirs = hasIds && id !== undefined && /^[a-z]+_[A-Za-z0-9_-]{1,60}$/.test(id) &&
    id !== item.call_id;
  const { id: _, ...rest } = item;
  return isTheirs ? item : rest;
}

/** A result is of the kind of its call. */
function outputOf(item: JsonObject, call: JsonObject): JsonObject {
  return isCustom(call) ? { ...item, type: "custom_tool_call_output" } : item;
}
