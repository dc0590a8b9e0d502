/**
 * OpenAI's Chat Completions, and the many servers that speak like it.
 *
 * @module
 */

import { argumentsOf } from "../changes/items.ts";
import { isObject, type JsonObject, own } from "../changes/json.ts";
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
import { toObject, type ToolFormat } from "./format.ts";

const WORDS: ContentWords = {
  text: (text) => ({ type: "text", text }),
  readText: ({ type, text }) => type === "text" && typeof text === "string" ? text : undefined,
};

function readTool(raw: JsonObject): JsonObject {
  if (!isObject(raw.function)) return providerTool(raw, "openai_chat");
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
  const text = own(raw.function, "arguments");
  return callOfText({ id: raw.id, name: own(raw.function, "name"), text });
}

function writeCall(block: JsonObject): JsonObject {
  const { tool_call_id: id, name } = block;
  if (isCustom(block)) return { id, type: "custom", custom: { name, input: argumentsOf(block) } };
  return { id, type: "function", function: { name, arguments: argumentsOf(block) } };
}

export const openaiChat: ToolFormat = {
  id: "openai_chat",
  limitsNames: true,
  tool: {
    shows: ["name", "description", "input_schema", "strict"],
    read: readTool,
    write: writeTool,
  },
  call: { shows: CALL_KEYS, read: readCall, write: writeCall },
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
