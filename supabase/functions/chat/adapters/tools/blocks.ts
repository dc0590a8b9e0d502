/**
 * Calls and results of tools as blocks, the same ones that messages hold.
 *
 * @module
 */

import { putCall } from "../changes/items.ts";
import { canonical, isObject, type JsonObject, own, textField } from "../changes/json.ts";
import { BORDER } from "../changes/text.ts";

/** What a call shows in every format that has ids. */
export const CALL_KEYS = [
  "tool_call_id",
  "name",
  "input",
  "arguments_raw",
] as const;

/** A provider that wants an object gets arguments that are none under this key. */
const INVALID = "INVALID_JSON";

export interface CallParts {
  readonly id: unknown;
  readonly name: unknown;
  /** JSON text, as the model wrote it. */
  readonly text: unknown;
}

/** Returns the block of a call whose arguments are text; invalid ones are kept as they are. */
export function callOfText({ id, name, text }: CallParts): JsonObject {
  const fresh = { type: "tool_call", tool_call_id: asText(id), state: "pending" };
  const raw = asText(text);
  const block = putCall({ name: asText(name), arguments: raw }, fresh);
  if (block.input !== null) return block;
  // Some providers send no text at all for a tool without parameters.
  if (raw.trim() === "") return { ...block, input: {} };
  return { ...block, state: "error", error: "The arguments are not a JSON object" };
}

/** Returns the block of a call whose arguments are an object. */
export function callOfObject(
  { id, name, input }: { readonly id: unknown; readonly name: unknown; readonly input: unknown },
): JsonObject {
  const raw = own(input, INVALID);
  if (typeof raw === "string" && isObject(input) && Object.keys(input).length === 1) {
    return callOfText({ id, name, text: raw });
  }
  const fresh = { type: "tool_call", tool_call_id: asText(id), name: asText(name) };
  if (isObject(input)) return { ...fresh, input, state: "pending" };
  const error = "The arguments are not a JSON object";
  return { ...fresh, input: null, arguments_raw: canonical(input ?? null), state: "error", error };
}

/** Returns the arguments as an object, also when they are none. */
export function inputOf(block: JsonObject): JsonObject {
  if (isObject(block.input)) return block.input;
  const raw = textField(block, "arguments_raw");
  return raw === undefined ? {} : { [INVALID]: raw };
}

/** The block of a call of a tool that takes free text. */
export function customCall({ id, name, text }: CallParts): JsonObject {
  return {
    type: "tool_call",
    tool_call_id: asText(id),
    name: asText(name),
    input: null,
    arguments_raw: asText(text),
    state: "pending",
    extras: { custom: true },
  };
}

/** Whether a call is of a tool that takes free text. */
export function isCustom(block: JsonObject): boolean {
  return own(block.extras, "custom") === true;
}

/** Returns what a result tells a reader of text. */
export function outputText({ output }: JsonObject): string {
  if (typeof output === "string") return output;
  return output === undefined || output === null ? "" : canonical(output);
}

/** A part of a result in the words of a format. */
export interface ContentWords {
  readonly text: (text: string) => JsonObject;
  readonly readText: (part: JsonObject) => string | undefined;
}

/** Returns a result's content: text, or a list of parts where it is stored as blocks. */
export function writeContent(block: JsonObject, words: ContentWords): unknown {
  const { output, content } = block;
  if (!Array.isArray(content)) return outputText(block);
  const text = textsOf(content);
  // A V1 client sees and edits the output; the blocks are of before then.
  if (typeof output === "string" && text !== "" && text !== output) return output;
  return content.map((part) => {
    const raw = own(part, "raw");
    // Parts of other kinds came from a provider and go back as they are.
    if (own(part, "type") === "unknown" && isObject(raw)) return raw;
    return words.text(textField(part, "text") ?? canonical(part));
  });
}

function textsOf(blocks: readonly unknown[]): string {
  return blocks.map((block) => textField(block, "text")).filter((text) => text !== undefined)
    .join(BORDER);
}

/** Returns output and blocks of a result's content. */
export function readContent(content: unknown, words: ContentWords): JsonObject {
  if (!Array.isArray(content)) return { output: content ?? null };
  const blocks = content.map((part: unknown) => {
    const text = isObject(part) ? words.readText(part) : undefined;
    return text === undefined ? { type: "unknown", raw: part } : { type: "text", text };
  });
  const texts = blocks.map((block) => textField(block, "text")).filter((text) =>
    text !== undefined
  );
  return { output: texts.join(BORDER), content: blocks };
}

export function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}
