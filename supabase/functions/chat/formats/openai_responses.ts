/**
 * OpenAI's Responses: flat items, and strictness always said.
 *
 * @module
 */

import { argumentsOf } from "../adapters/changes/items.ts";
import { isObject, type JsonObject, textField } from "../adapters/changes/json.ts";
import {
  asOf,
  asText,
  BLOCK_KEYS,
  CALL_KEYS,
  callOfText,
  type ContentWords,
  customCall,
  isCustom,
  providerCall,
  readContent,
  unknownBlock,
  writeContent,
} from "./blocks.ts";
import { present, providerSchema, providerTool, schemaOf } from "./definitions.ts";
import { toObject, type ToolFormat } from "./format.ts";
import { isMedia, readResponsesMedia, writeResponsesMedia } from "./media.ts";

const ID = "openai_responses";

const WORDS: ContentWords = {
  provider: ID,
  text: (text) => ({ type: "input_text", text }),
  media: writeResponsesMedia,
  read: (part) =>
    (part.type === "input_text" || part.type === "output_text") && typeof part.text === "string"
      ? { type: "text", text: part.text }
      : readResponsesMedia(part),
};

/** A part of a message, or an item of its own. */
function readBlock(raw: JsonObject): JsonObject {
  if (raw.type === "refusal" && typeof raw.refusal === "string") {
    return { type: "refusal", text: raw.refusal };
  }
  if (raw.type === "reasoning") return readReasoning(raw);
  return WORDS.read(raw) ?? unknownBlock(raw, ID);
}

function readReasoning({ id, summary, content, encrypted_content: encrypted }: JsonObject) {
  const texts = partTexts(content);
  return {
    type: "reasoning",
    ...(typeof id === "string" ? { id } : {}),
    ...(texts.length === 0 ? {} : { text: texts.join("") }),
    summary: partTexts(summary),
    ...(typeof encrypted === "string" ? { encrypted } : {}),
    provider: ID,
  };
}

function partTexts(parts: unknown): string[] {
  if (!Array.isArray(parts)) return [];
  return parts.map((part: unknown) => textField(part, "text")).filter((text) => text !== undefined);
}

function writeBlock(block: JsonObject): JsonObject {
  if (isMedia(block)) return writeResponsesMedia(block) ?? {};
  if (block.type === "unknown" && isObject(block.raw)) return block.raw;
  if (block.type === "refusal") return { type: "refusal", refusal: block.text };
  if (block.type !== "reasoning") return { type: "output_text", text: asText(block.text) };
  const { id, summary, text, encrypted } = block;
  const texts: readonly unknown[] = Array.isArray(summary) ? summary : [];
  return {
    ...(id === undefined ? {} : { id }),
    type: "reasoning",
    summary: texts.map((item) => ({ type: "summary_text", text: item })),
    ...(text === undefined ? {} : { content: [{ type: "reasoning_text", text }] }),
    ...(encrypted === undefined ? {} : { encrypted_content: encrypted }),
  };
}

/** Calls of tools of the provider that run where its client is. */
const CLIENT_CALLS: ReadonlySet<unknown> = new Set([
  "apply_patch_call",
  "computer_call",
  "local_shell_call",
  "shell_call",
  "tool_search_call",
]);

function readTool(raw: JsonObject): JsonObject {
  if (raw.type !== "function") return providerTool(raw, ID);
  return {
    name: asText(raw.name),
    ...present(raw, ["description"]),
    input_schema: schemaOf(raw.parameters),
    ...present(raw, ["strict"]),
  };
}

function writeTool(tool: JsonObject): JsonObject {
  return {
    type: "function",
    name: tool.name,
    ...present(tool, ["description"]),
    parameters: providerSchema(tool),
    // Required here; the other formats may leave it out.
    strict: tool.strict ?? null,
  };
}

function readCall(raw: JsonObject): JsonObject {
  const { call_id: id, name } = raw;
  if (raw.type !== "function_call" && raw.type !== "custom_tool_call") {
    const call = providerCall(raw, ID, id ?? raw.id);
    // Without the provider's own answer to it, somebody else has to carry it out.
    return CLIENT_CALLS.has(raw.type) && raw.execution !== "server"
      ? { ...call, state: "pending", executor: "client" }
      : call;
  }
  const block = raw.type === "custom_tool_call"
    ? customCall({ id, name, text: raw.input })
    : callOfText({ id, name, text: raw.arguments });
  return { ...block, ...present(raw, ["id"]) };
}

function writeCall(block: JsonObject): JsonObject {
  const as = asOf(block);
  if (as !== undefined) return { id: block.tool_call_id, type: as, ...toObject(block.input) };
  const { tool_call_id: call_id, name } = block;
  const text = argumentsOf(block);
  const call = isCustom(block)
    ? { type: "custom_tool_call", call_id, name, input: text }
    : { type: "function_call", call_id, name, arguments: text };
  return { ...call, ...present(block, ["id"]) };
}

export const openaiResponses: ToolFormat = {
  id: ID,
  limitsNames: true,
  tool: {
    shows: ["name", "description", "input_schema", "strict"],
    read: readTool,
    write: writeTool,
  },
  call: { shows: [...CALL_KEYS, "id"], read: readCall, write: writeCall },
  block: {
    shows: BLOCK_KEYS,
    read: readBlock,
    write: writeBlock,
    silent: { annotations: [], logprobs: [], status: null, encrypted_content: null, content: null },
  },
  result: {
    shows: ["tool_call_id", "output", "content"],
    read: ({ call_id, output }) => ({
      type: "tool_result",
      tool_call_id: asText(call_id),
      ...readContent(output, WORDS),
      is_error: false,
    }),
    write: (block) => ({
      type: "function_call_output",
      call_id: block.tool_call_id,
      output: writeContent(block, WORDS),
    }),
  },
};
