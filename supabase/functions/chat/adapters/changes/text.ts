/**
 * Text: several blocks in V2, one string in V1, joined by a blank line.
 *
 * @module
 */

import { canonical, field, isObject, type JsonObject, textField, without } from "./json.ts";

/** The V1 string that blocks show in: the message's content, or `metadata.reasoning`. */
export type TextKind = "content" | "reasoning";

/** Between the texts of two blocks. */
export const BORDER = "\n\n";

/** Returns what a block adds to the V1 string; `undefined` when nothing. */
export function textOf(block: unknown, kind: TextKind, role: unknown): string | undefined {
  const type = field(block, "type");
  if (kind === "reasoning") return type === "reasoning" ? textField(block, "text") : undefined;
  if (type === "text" || type === "refusal") return textField(block, "text");
  if (type !== "tool_result" || role !== "tool") return undefined;
  const output = field(block, "output");
  if (typeof output === "string") return output;
  return output === undefined || output === null ? undefined : canonical(output);
}

/** Which string to put, and into what kind of row. */
export interface TextPut {
  readonly kind: TextKind;
  readonly role: unknown;
  /** `undefined` takes all text away. */
  readonly text: string | undefined;
}

/** Returns blocks that show exactly `text`, changing no more blocks than the edit touched. */
export function putText(content: readonly unknown[], put: TextPut): readonly unknown[] {
  const { kind, role, text } = put;
  const texts = content.map((block) => textOf(block, kind, role));
  const shown = texts.filter((item) => item !== undefined);
  if (shown.length === 0) return addText(content, put);
  const { head, tail, middle } = text === undefined ? NOTHING_KEPT : compare(shown, text);
  let place = 0;
  return content.flatMap((block, index) => {
    if (texts[index] === undefined || !isObject(block)) return [block];
    place++;
    if (place <= head || place > shown.length - tail) return [block];
    return withText(block, kind, place === head + 1 ? middle : undefined);
  });
}

interface Kept {
  /** Blocks at the beginning and at the end that the edit left alone. */
  readonly head: number;
  readonly tail: number;
  /** Text between them. */
  readonly middle: string | undefined;
}

const NOTHING_KEPT: Kept = { head: 0, tail: 0, middle: undefined };

/** Compares old texts with the new whole. At least one block is left for what lies between. */
function compare(shown: readonly string[], text: string): Kept {
  let head = 0;
  let start = 0;
  while (head < shown.length - 1) {
    const next = shown[head] + BORDER;
    if (!text.startsWith(next, start)) break;
    start += next.length;
    head++;
  }
  let tail = 0;
  let end = text.length;
  while (tail < shown.length - 1 - head) {
    const next = BORDER + shown[shown.length - 1 - tail];
    if (end - next.length < start || !text.endsWith(next, end)) break;
    end -= next.length;
    tail++;
  }
  return { head, tail, middle: text.slice(start, end) };
}

/** Returns the block with another text, or no block when nothing is left without it. */
function withText(block: JsonObject, kind: TextKind, text: string | undefined): JsonObject[] {
  if (field(block, "type") === "tool_result") return [{ ...block, output: text ?? null }];
  if (kind === "content") {
    // The offsets of annotations belong to the old text.
    return text === undefined ? [] : [{ ...without(block, ["annotations"]), text }];
  }
  if (text === undefined) {
    const rest = without(block, ["type", "id", "text", "extras"]);
    return Object.keys(rest).length === 0 ? [] : [without(block, ["text"])];
  }
  const extras = field(block, "extras") ?? (Object.hasOwn(block, "extras") ? null : {});
  const isSigned = Object.hasOwn(block, "signature") || Object.hasOwn(block, "encrypted");
  // The signature is of the old text; it is kept, because a provider may still want it back.
  return [
    {
      ...block,
      text,
      ...isSigned && isObject(extras) ? { extras: { ...extras, stale: true } } : {},
    },
  ];
}

/** Adds the first text: reasoning in front, content behind the leading reasoning or as output. */
function addText(
  content: readonly unknown[],
  { kind, role, text }: TextPut,
): readonly unknown[] {
  if (text === undefined) return content;
  if (kind === "reasoning") return [{ type: "reasoning", text }, ...content];
  const result = toolResultPlace(content, role);
  if (result !== undefined) return withKey(content, result, { output: text });
  const found = content.findIndex((block) => field(block, "type") !== "reasoning");
  return content.toSpliced(found < 0 ? content.length : found, 0, { type: "text", text });
}

/** Returns the index of the tool result that V1 shows: the first one of a tool row. */
export function toolResultPlace(content: readonly unknown[], role: unknown): number | undefined {
  if (role !== "tool") return undefined;
  const place = content.findIndex((block) => field(block, "type") === "tool_result");
  return place < 0 ? undefined : place;
}

/** Returns the blocks with some keys of one of them set. */
export function withKey(
  content: readonly unknown[],
  place: number,
  keys: JsonObject,
): readonly unknown[] {
  const block = content[place];
  return content.with(place, { ...isObject(block) ? block : {}, ...keys });
}
