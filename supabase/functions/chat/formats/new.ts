/**
 * The new form itself: what is stored.
 *
 * @module
 */

import { isObject, type JsonObject, without } from "../adapters/changes/json.ts";
import { emptySchema, present } from "./definitions.ts";
import type { Part, ToolFormat } from "./format.ts";

const TOOL_KEYS = [
  "name",
  "title",
  "description",
  "input_schema",
  "output_schema",
  "strict",
  "annotations",
  "version",
  "extras",
];
const CALL_KEYS = [
  "type",
  "id",
  "tool_call_id",
  "name",
  "input",
  "arguments_raw",
  "state",
  "executor",
  "error",
  "extras",
];
const RESULT_KEYS = [
  "type",
  "id",
  "tool_call_id",
  "name",
  "output",
  "content",
  "is_error",
  "extras",
];

function part(keys: readonly string[], defaults: JsonObject): Part {
  return {
    shows: keys,
    read(raw) {
      const unknown = without(raw, keys);
      const known = { ...defaults, ...without(raw, Object.keys(unknown)) };
      if (Object.keys(unknown).length === 0) return known;
      return { ...known, extras: { ...isObject(raw.extras) ? raw.extras : {}, ...unknown } };
    },
    write: (stored) => present(stored, keys),
  };
}

export const newFormat: ToolFormat = {
  id: "new",
  limitsNames: false,
  tool: part(TOOL_KEYS, { name: "", input_schema: emptySchema() }),
  call: part(CALL_KEYS, { type: "tool_call", tool_call_id: "", name: "", input: null }),
  result: part(RESULT_KEYS, { type: "tool_result", tool_call_id: "", output: null }),
};
