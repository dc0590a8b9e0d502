/**
 * Steps of a conversation as messages of Chat Completions.
 *
 * @module
 */

import { isObject, type JsonObject, textField } from "../adapters/changes/json.ts";
import { BORDER } from "../adapters/changes/text.ts";
import { present } from "./definitions.ts";
import type { Words } from "./export.ts";
import { isMedia, writeChatMedia } from "./media.ts";
import { isCall, type Step } from "./steps.ts";

export function writeChat(steps: readonly Step[], words: Words) {
  const messages = steps.flatMap((step) =>
    step.role === "assistant" ? writeAssistant(step, words) : writeOther(step, words)
  );
  return { messages };
}

function writeOther({ role, blocks }: Step, words: Words): JsonObject[] {
  const content = contentOf({ role, blocks }, words);
  return content === undefined ? [] : [{ role, content }];
}

function writeAssistant(step: Step, words: Words): JsonObject[] {
  const calls = step.blocks.filter(isCall);
  // What a server says beside is no input.
  for (const block of step.blocks) if (block.type === "unknown") words.omit(block, "no_words");
  const thoughts = step.blocks.filter(({ type }) => type === "reasoning");
  const isWanted = calls.length > 0 && words.isOpen(step);
  if (!isWanted) { for (const block of thoughts) words.omit(block, "reasoning_of_earlier_turn"); }
  // Some servers tell of reasoning by keys of the message, others by parts of its content.
  const said = isWanted ? thoughts.map(words.say) : [];
  const content = contentOf(step, words, said.filter(({ type }) => type !== undefined));
  if (content === undefined && calls.length === 0) return [];
  return [
    {
      role: "assistant",
      content: content ?? null,
      ...Object.assign({}, ...said.filter(({ type }) => type === undefined)),
      ...(calls.length === 0 ? {} : { tool_calls: calls.map((call) => callOf(words.say(call))) }),
    },
    ...step.results.map(words.say),
    ...imagesOf(step.results, words),
  ];
}

/** Keys of a call that are input; servers tell more with it. */
function callOf(call: JsonObject): JsonObject {
  return present(call, ["id", "type", "function", "custom", "extra_content"]);
}

/** A result holds text only: its images are shown by the user, once all results are told. */
function imagesOf(results: readonly JsonObject[], words: Words): JsonObject[] {
  const parts = results.flatMap((result): JsonObject[] => {
    const content: readonly unknown[] = Array.isArray(result.content) ? result.content : [];
    return content.filter(isObject).filter(isMedia).flatMap((block) => {
      const shown = writeChatMedia(block);
      if (shown === undefined) words.omit(block, "no_words");
      return shown === undefined ? [] : [shown];
    });
  });
  return parts.length === 0 ? [] : [{ role: "user", content: parts }];
}

function contentOf(
  { role, blocks }: Pick<Step, "role" | "blocks">,
  words: Words,
  first: readonly JsonObject[] = [],
): unknown {
  const parts = [...first];
  for (const block of blocks) {
    if (isMedia(block)) {
      // A message of the assistant holds no image.
      const shown = role === "assistant" ? undefined : writeChatMedia(block);
      if (shown === undefined) words.omit(block, "no_words");
      else parts.push(shown);
    } else if (block.type === "text" || block.type === "refusal") {
      // As words: a server that is not OpenAI's own knows no refusals.
      const text = textField(block, "text") ?? "";
      if (text === "") words.omit(block, "empty_text");
      else parts.push({ type: "text", text });
    }
  }
  if (parts.length === 0) return undefined;
  const isText = parts.every(({ type }) => type === "text");
  if (!isText || (parts.length > 1 && !words.joinTexts)) return parts;
  return parts.map(({ text }) => text).join(BORDER);
}
