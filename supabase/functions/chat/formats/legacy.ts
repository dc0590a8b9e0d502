/**
 * Tools of the first API: one entry for each parameter, or an entry of OpenAI's old `functions`.
 *
 * @module
 */

import { argumentsOf } from "../adapters/changes/items.ts";
import {
  isObject,
  type JsonObject,
  own,
  setKey,
  textField,
  without,
} from "../adapters/changes/json.ts";
import { asText, callOfObject, callOfText, outputText } from "./blocks.ts";
import { emptySchema, present, schemaOf } from "./definitions.ts";
import { toObject, type ToolFormat } from "./format.ts";
import { fromLegacySchema, toLegacySchema } from "./schema.ts";

/** In `extras`, on a tool whose parameters were written as a schema. */
const AS_SCHEMA = { legacy_parameters: "schema" };

function readTool(raw: JsonObject): JsonObject {
  const { parameters } = raw;
  const shared = { name: asText(raw.name), ...present(raw, ["description"]) };
  // A parameter may be named "type", but its entry is not a text.
  if (textField(parameters, "type") !== undefined) {
    return { ...shared, input_schema: fromLegacySchema(schemaOf(parameters)), extras: AS_SCHEMA };
  }
  return { ...shared, input_schema: fromLegacySchema(readFlat(parameters)) };
}

function readFlat(parameters: unknown): JsonObject {
  if (!isObject(parameters)) return emptySchema();
  const properties: Record<string, unknown> = {};
  const required: string[] = [];
  for (const name of Object.keys(parameters)) {
    const entry = parameters[name];
    const isMarked = isObject(entry) && typeof entry.required === "boolean";
    setKey(properties, name, isMarked ? without(entry, ["required"]) : entry);
    if (own(entry, "required") === true) required.push(name);
  }
  return { type: "object", properties, required };
}

function writeTool(tool: JsonObject): JsonObject {
  const shared = { name: tool.name, ...present(tool, ["description"]) };
  const schema = toLegacySchema(schemaOf(tool.input_schema));
  const isFlat = own(tool.extras, "legacy_parameters") !== "schema" && fitsFlat(schema);
  return { ...shared, parameters: isFlat ? writeFlat(schema) : schema };
}

/** Whether each parameter has room for the mark that it is required. */
function fitsFlat({ properties }: JsonObject): boolean {
  return Object.values(toObject(properties)).every((entry) =>
    isObject(entry) && entry.required === undefined
  );
}

function writeFlat({ properties, required }: JsonObject): JsonObject {
  const names: readonly unknown[] = Array.isArray(required) ? required : [];
  const parameters: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(toObject(properties))) {
    setKey(parameters, name, { ...toObject(entry), required: names.includes(name) });
  }
  return parameters;
}

function readCall(raw: JsonObject): JsonObject {
  const { id = "", name } = raw;
  if (typeof raw.arguments === "string") return callOfText({ id, name, text: raw.arguments });
  const call = callOfObject({ id, name, input: raw.arguments ?? {} });
  return { ...call, extras: { legacy_arguments: "object" } };
}

function writeCall(block: JsonObject): JsonObject {
  const isObjectCall = own(block.extras, "legacy_arguments") === "object" && isObject(block.input);
  return { name: block.name, arguments: isObjectCall ? block.input : argumentsOf(block) };
}

export const legacy: ToolFormat = {
  id: "legacy",
  limitsNames: false,
  tool: { shows: ["name", "description", "input_schema"], read: readTool, write: writeTool },
  call: { shows: ["name", "input", "arguments_raw"], read: readCall, write: writeCall },
  result: {
    shows: ["name", "output", "content"],
    read: ({ name, content }) => ({
      type: "tool_result",
      tool_call_id: "",
      name: asText(name),
      output: content ?? null,
      is_error: false,
    }),
    write: (block) => ({
      role: "function",
      ...present(block, ["name"]),
      content: outputText(block),
    }),
  },
};
