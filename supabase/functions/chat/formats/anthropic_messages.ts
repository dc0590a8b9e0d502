/**
 * Steps of a conversation as messages of Anthropic: two sides in turn, the system apart.
 *
 * @module
 */

import { type JsonObject, textField } from "../adapters/changes/json.ts";
import type { Words } from "./export.ts";
import { isMedia, writeAnthropicMedia } from "./media.ts";
import type { Step } from "./steps.ts";

export function writeAnthropic(steps: readonly Step[], words: Words) {
  const system: JsonObject[] = [];
  const messages: { role: string; content: JsonObject[] }[] = [];
  const add = (role: string, content: readonly JsonObject[]): void => {
    const last = messages.at(-1);
    if (content.length === 0) return;
    // Two messages of one side would be put together, results of tools have to be in one.
    if (last?.role === role) last.content.push(...content);
    else messages.push({ role, content: [...content] });
  };
  for (const step of steps) {
    const content = step.blocks.flatMap((block) => write(block, step.role, words));
    if (step.role === "system" || step.role === "developer") system.push(...content);
    else add(step.role, content);
    add("user", step.results.map(words.say));
  }
  return { messages, system };
}

function write(block: JsonObject, role: string, words: Words): JsonObject[] {
  const omit = (reason: Parameters<Words["omit"]>[1]): JsonObject[] => {
    words.omit(block, reason);
    return [];
  };
  if (isMedia(block)) {
    const shown = role === "user" ? writeAnthropicMedia(block) : undefined;
    return shown === undefined ? omit("no_words") : [shown];
  }
  if (block.type === "text" || block.type === "refusal") {
    const text = textField(block, "text") ?? "";
    if (text.trim() === "") return omit("empty_text");
    return [block.type === "text" ? words.say(block) : { type: "text", text }];
  }
  if (block.type === "reasoning") {
    const isProven = (textField(block, "signature") ?? "") !== "" ||
      textField(block, "encrypted") !== undefined;
    if (!isProven) return omit("unsigned_reasoning");
  }
  return [words.say(block)];
}
