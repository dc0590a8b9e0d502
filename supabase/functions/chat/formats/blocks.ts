/**
 * Calls and results of tools as blocks, the same ones that messages hold.
 *
 * @module
 */

import { putCall } from "../adapters/changes/items.ts";
import {
  canonical,
  isObject,
  type JsonObject,
  own,
  textField,
  without,
} from "../adapters/changes/json.ts";
import { BORDER } from "../adapters/changes/text.ts";
import { isMedia } from "./media.ts";

/** What a call shows in every format that has ids. */
export const CALL_KEYS = [
  "tool_call_id",
  "name",
  "input",
  "arguments_raw",
] as const;

/** What other blocks of content show. */
export const BLOCK_KEYS = [
  "type",
  "text",
  "summary",
  "signature",
  "encrypted",
  "source",
  "media_type",
  "filename",
  "raw",
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
  // Neither text nor an object: whatever it is, it is not what the tool takes.
  const raw = typeof text === "string" ? text : text == null ? "" : canonical(text);
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

/** Parts of content in the words of a format. */
export interface ContentWords {
  /** Whose words these are. */
  readonly provider: string;
  readonly text: (text: string) => JsonObject;
  /** Returns the stored form of a part; `undefined` when it has none. */
  readonly read: (part: JsonObject) => JsonObject | undefined;
  /** Returns an image or a file; `undefined` when the format has no words for it. */
  readonly media: (block: JsonObject) => JsonObject | undefined;
}

/** Returns a result's content: text, or a list of parts where it is stored as blocks. */
export function writeContent(block: JsonObject, words: ContentWords): unknown {
  const { output, content } = block;
  if (!Array.isArray(content)) return outputText(block);
  const text = textsOf(content);
  // A V1 client sees and edits the output; the blocks are of before then.
  if (typeof output === "string" && text !== "" && text !== output) return output;
  return content.map((part) => writePart(part, words));
}

function writePart(part: unknown, words: ContentWords): JsonObject {
  if (isObject(part) && isMedia(part)) return words.media(part) ?? words.text(`[${part.type}]`);
  const raw = own(part, "raw");
  if (own(part, "type") !== "unknown" || !isObject(raw)) {
    return words.text(textField(part, "text") ?? canonical(part));
  }
  // Parts of other kinds go back to their provider as they are, and to others as text.
  const isTheirs = own(own(part, "extras"), "provider") === words.provider ||
    words.read(raw) !== undefined;
  return isTheirs ? raw : words.text(canonical(raw));
}

function textsOf(blocks: readonly unknown[]): string {
  return blocks.map((block) => textField(block, "text")).filter((text) => text !== undefined)
    .join(BORDER);
}

/** Returns output and blocks of a result's content. */
export function readContent(content: unknown, words: ContentWords): JsonObject {
  if (!Array.isArray(content)) return { output: content ?? null };
  const blocks = content.map((part: unknown) =>
    (isObject(part) ? words.read(part) : undefined) ?? unknownBlock(part, words.provider)
  );
  return { output: textsOf(blocks), content: blocks };
}

/** What only its provider understands; it goes back there as it is. */
export function unknownBlock(raw: unknown, provider: string): JsonObject {
  return { type: "unknown", raw, extras: { provider } };
}

/** A call that the provider runs itself: all of its keys are kept as what it was given. */
export function providerCall(raw: JsonObject, provider: string, id: unknown): JsonObject {
  const as = String(raw.type);
  return {
    type: "tool_call",
    tool_call_id: asText(id),
    name: asText(raw.name) || as.replace(/_call$/, ""),
    input: isObject(raw.input) ? raw.input : without(raw, ["type", "id", "call_id"]),
    state: "complete",
    executor: "provider",
    extras: { provider, as },
  };
}

/** The type that a provider gave a block which is not one of everybody's. */
export function asOf(block: JsonObject): string | undefined {
  return textField(block.extras, "as");
}

export function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}
