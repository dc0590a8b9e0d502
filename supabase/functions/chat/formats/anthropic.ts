/**
 * Anthropic's Messages: arguments are an object, and a result says whether it failed.
 *
 * @module
 */

import { isObject, type JsonObject } from "../adapters/changes/json.ts";
import {
  asOf,
  asText,
  BLOCK_KEYS,
  CALL_KEYS,
  callOfObject,
  callOfText,
  type ContentWords,
  inputOf,
  providerCall,
  readContent,
  unknownBlock,
  writeContent,
} from "./blocks.ts";
import { present, providerSchema, providerTool, schemaOf } from "./definitions.ts";
import type { ToolFormat } from "./format.ts";
import { isMedia, readAnthropicMedia, writeAnthropicMedia } from "./media.ts";

const ID = "anthropic";

const WORDS: ContentWords = {
  provider: ID,
  text: (text) => ({ type: "text", text }),
  media: writeAnthropicMedia,
  read: (part) =>
    part.type === "text" && typeof part.text === "string"
      ? { type: "text", text: part.text }
      : readAnthropicMedia(part),
};

function readBlock(raw: JsonObject): JsonObject {
  const { type, thinking, signature, data } = raw;
  if (type === "thinking" && typeof thinking === "string") {
    const signed = typeof signature === "string" ? { signature } : {};
    return { type: "reasoning", text: thinking, ...signed, provider: ID };
  }
  if (type === "redacted_thinking" && typeof data === "string") {
    return { type: "reasoning", encrypted: data, redacted: true, provider: ID };
  }
  return WORDS.read(raw) ?? unknownBlock(raw, ID);
}

function writeBlock(block: JsonObject): JsonObject {
  if (isMedia(block)) return writeAnthropicMedia(block) ?? {};
  if (block.type === "unknown" && isObject(block.raw)) return block.raw;
  if (block.type !== "reasoning") return WORDS.text(asText(block.text));
  const { text = "", signature, encrypted } = block;
  if (encrypted !== undefined) return { type: "redacted_thinking", data: encrypted };
  return { type: "thinking", thinking: text, ...(signature === undefined ? {} : { signature }) };
}

function readCall(raw: JsonObject): JsonObject {
  const { id, name, input } = raw;
  if (raw.type !== "tool_use") return providerCall(raw, ID, id);
  // Assembled of a stream: text that is no JSON.
  return typeof input === "string"
    ? callOfText({ id, name, text: input })
    : callOfObject({ id, name, input });
}

function writeCall(block: JsonObject): JsonObject {
  return {
    type: asOf(block) ?? "tool_use",
    id: block.tool_call_id,
    name: block.name,
    input: inputOf(block),
  };
}

/** A result of a tool that the provider ran says which one it was by its type. */
function readResult({ type, tool_use_id, content, is_error }: JsonObject): JsonObject {
  const isOwn = typeof type === "string" && type !== "tool_result";
  return {
    type: "tool_result",
    tool_call_id: asText(tool_use_id),
    ...(isOwn ? { output: content ?? null } : readContent(content, WORDS)),
    is_error: is_error === true,
    ...(isOwn ? { extras: { provider: ID, as: type } } : {}),
  };
}

function writeResult(block: JsonObject): JsonObject {
  const as = asOf(block);
  return {
    type: as ?? "tool_result",
    tool_use_id: block.tool_call_id,
    content: as === undefined ? writeContent(block, WORDS) : block.output,
    ...block.is_error === true ? { is_error: true } : {},
  };
}

function readTool(raw: JsonObject): JsonObject {
  // Tools of the provider have a dated type and no schema.
  if (raw.input_schema === undefined) return providerTool(raw, ID);
  return {
    name: asText(raw.name),
    ...present(raw, ["description"]),
    input_schema: schemaOf(raw.input_schema),
  };
}

function writeTool(tool: JsonObject): JsonObject {
  return {
    name: tool.name,
    ...present(tool, ["description"]),
    input_schema: providerSchema(tool),
  };
}

export const anthropic: ToolFormat = {
  id: ID,
  limitsNames: true,
  tool: { shows: ["name", "description", "input_schema"], read: readTool, write: writeTool },
  call: { shows: CALL_KEYS, read: readCall, write: writeCall },
  result: {
    shows: ["tool_call_id", "output", "content", "is_error"],
    read: readResult,
    write: writeResult,
  },
  block: {
    shows: BLOCK_KEYS,
    read: readBlock,
    write: writeBlock,
    silent: { citations: null },
  },
};
