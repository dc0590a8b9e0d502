/**
 * Anthropic's Messages: arguments are an object, and a result says whether it failed.
 *
 * @module
 */

import type { JsonObject } from "../changes/json.ts";
import {
  asText,
  CALL_KEYS,
  callOfObject,
  type ContentWords,
  inputOf,
  readContent,
  writeContent,
} from "./blocks.ts";
import { present, providerSchema, providerTool, schemaOf } from "./definitions.ts";
import type { ToolFormat } from "./format.ts";

const WORDS: ContentWords = {
  text: (text) => ({ type: "text", text }),
  readText: ({ type, text }) => type === "text" && typeof text === "string" ? text : undefined,
};

function readTool(raw: JsonObject): JsonObject {
  // Tools of the provider have a dated type and no schema.
  if (raw.input_schema === undefined) return providerTool(raw, "anthropic");
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
  id: "anthropic",
  limitsNames: true,
  tool: { shows: ["name", "description", "input_schema"], read: readTool, write: writeTool },
  call: {
    shows: CALL_KEYS,
    read: ({ id, name, input }) => callOfObject({ id, name, input }),
    write: (block) => ({
      type: "tool_use",
      id: block.tool_call_id,
      name: block.name,
      input: inputOf(block),
    }),
  },
  result: {
    shows: ["tool_call_id", "output", "content", "is_error"],
    read: ({ tool_use_id, content, is_error }) => ({
      type: "tool_result",
      tool_call_id: asText(tool_use_id),
      ...readContent(content, WORDS),
      is_error: is_error === true,
    }),
    write: (block) => ({
      type: "tool_result",
      tool_use_id: block.tool_call_id,
      content: writeContent(block, WORDS),
      ...block.is_error === true ? { is_error: true } : {},
    }),
  },
};
