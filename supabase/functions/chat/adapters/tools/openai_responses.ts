/**
 * OpenAI's Responses: flat items, and strictness always said.
 *
 * @module
 */

import { argumentsOf } from "../changes/items.ts";
import type { JsonObject } from "../changes/json.ts";
import {
  asText,
  CALL_KEYS,
  callOfText,
  type ContentWords,
  customCall,
  isCustom,
  readContent,
  writeContent,
} from "./blocks.ts";
import { present, providerSchema, providerTool, schemaOf } from "./definitions.ts";
import type { ToolFormat } from "./format.ts";

const WORDS: ContentWords = {
  text: (text) => ({ type: "input_text", text }),
  readText: ({ type, text }) =>
    (type === "input_text" || type === "output_text") && typeof text === "string"
      ? text
      : undefined,
};

function readTool(raw: JsonObject): JsonObject {
  if (raw.type !== "function") return providerTool(raw, "openai_responses");
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
  const block = raw.type === "custom_tool_call"
    ? customCall({ id, name, text: raw.input })
    : callOfText({ id, name, text: raw.arguments });
  return { ...block, ...present(raw, ["id"]) };
}

function writeCall(block: JsonObject): JsonObject {
  const { tool_call_id: call_id, name } = block;
  const text = argumentsOf(block);
  const call = isCustom(block)
    ? { type: "custom_tool_call", call_id, name, input: text }
    : { type: "function_call", call_id, name, arguments: text };
  return { ...call, ...present(block, ["id"]) };
}

export const openaiResponses: ToolFormat = {
  id: "openai_responses",
  limitsNames: true,
  tool: {
    shows: ["name", "description", "input_schema", "strict"],
    read: readTool,
    write: writeTool,
  },
  call: { shows: [...CALL_KEYS, "id"], read: readCall, write: writeCall },
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
