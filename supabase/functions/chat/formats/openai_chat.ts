/**
 * OpenAI's Chat Completions, and the many servers that speak like it.
 *
 * @module
 */

import { argumentsOf } from "../adapters/changes/items.ts";
import { isObject, type JsonObject, own } from "../adapters/changes/json.ts";
import {
  asText,
  BLOCK_KEYS,
  CALL_KEYS,
  callOfObject,
  callOfText,
  type ContentWords,
  customCall,
  isCustom,
  readContent,
  unknownBlock,
  writeContent,
} from "./blocks.ts";
import { present, providerSchema, providerTool, schemaOf } from "./definitions.ts";
import { toObject, type ToolFormat } from "./format.ts";
import { isMedia, readChatMedia, writeChatMedia } from "./media.ts";

const ID = "openai_chat";

const WORDS: ContentWords = {
  provider: ID,
  text: (text) => ({ type: "text", text }),
  // A message of a tool holds text only; its images follow in a message of the user.
  media: () => undefined,
  read: (part) =>
    part.type === "text" && typeof part.text === "string"
      ? { type: "text", text: part.text }
      : undefined,
};

/** Keys under which servers tell what a model thought; the first that is text counts. */
export const REASONING_KEYS = [
  "reasoning_content",
  "reasoning",
  "reasoning_text",
  "reasoning_details",
  "thinking_blocks",
] as const;

/** A part of the content, or an object of the keys of a message that tell of reasoning. */
function readBlock(raw: JsonObject): JsonObject {
  const { type, text, refusal } = raw;
  if (type === "refusal" && typeof refusal === "string") return { type, text: refusal };
  const known = WORDS.read(raw) ?? readChatMedia(raw);
  if (known !== undefined) return known;
  if (type === "output_text" && typeof text === "string") return { type: "text", text };
  const isReasoning = type === "thinking" || REASONING_KEYS.some((key) => Object.hasOwn(raw, key));
  if (!isReasoning) return unknownBlock(raw, ID);
  const said = type === "thinking" ? reasoningText(raw.thinking) : firstText(raw);
  return { type: "reasoning", ...(said === undefined ? {} : { text: said }), provider: ID };
}

function firstText(raw: JsonObject): string | undefined {
  for (const key of REASONING_KEYS) {
    const text = reasoningText(raw[key]);
    if (text !== undefined && text !== "") return text;
  }
  return undefined;
}

function reasoningText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const texts = value.flatMap((part: unknown) => {
    if (typeof part === "string") return [part];
    const [text] = ["text", "summary", "thinking"].map((key) => reasoningText(own(part, key)))
      .filter((found) => found !== undefined);
    return text === undefined ? [] : [text];
  });
  return texts.length === 0 ? undefined : texts.join("");
}

function writeBlock(block: JsonObject): JsonObject {
  if (isMedia(block)) return writeChatMedia(block) ?? {};
  if (block.type === "reasoning") return { reasoning_content: block.text };
  if (block.type === "unknown" && isObject(block.raw)) return block.raw;
  if (block.type === "refusal") return { type: "refusal", refusal: block.text };
  return WORDS.text(asText(block.text));
}

function readTool(raw: JsonObject): JsonObject {
  if (!isObject(raw.function)) return providerTool(raw, ID);
  const { name, parameters } = raw.function;
  return {
    name: asText(name),
    ...present(raw.function, ["description"]),
    input_schema: schemaOf(parameters),
    ...present(raw.function, ["strict"]),
  };
}

function writeTool(tool: JsonObject): JsonObject {
  return {
    type: "function",
    function: {
      name: tool.name,
      ...present(tool, ["description"]),
      parameters: providerSchema(tool),
      ...present(tool, ["strict"]),
    },
  };
}

function readCall(raw: JsonObject): JsonObject {
  if (raw.type === "custom") {
    const { name, input } = toObject(raw.custom);
    return customCall({ id: raw.id, name, text: input });
  }
  const { name, arguments: given } = toObject(raw.function);
  if (!isObject(given)) return callOfText({ id: raw.id, name, text: given });
  return callOfObject({ id: raw.id, name, input: given });
}

function writeCall(block: JsonObject): JsonObject {
  const { tool_call_id: id, name } = block;
  if (isCustom(block)) return { id, type: "custom", custom: { name, input: argumentsOf(block) } };
  return { id, type: "function", function: { name, arguments: argumentsOf(block) } };
}

export const openaiChat: ToolFormat = {
  id: ID,
  limitsNames: true,
  tool: {
    shows: ["name", "description", "input_schema", "strict"],
    read: readTool,
    write: writeTool,
  },
  call: { shows: CALL_KEYS, read: readCall, write: writeCall },
  block: { shows: BLOCK_KEYS, read: readBlock, write: writeBlock },
  result: {
    shows: ["tool_call_id", "output", "content"],
    read: ({ tool_call_id, content }) => ({
      type: "tool_result",
      tool_call_id: asText(tool_call_id),
      ...readContent(content, WORDS),
      is_error: false,
    }),
    write: (block) => ({
      role: "tool",
      tool_call_id: block.tool_call_id,
      content: writeContent(block, WORDS),
    }),
  },
};
