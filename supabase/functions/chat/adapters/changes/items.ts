/**
 * Lists: one block for each element of a V1 metadata array.
 *
 * @module
 */

import {
  canonical,
  equal,
  field,
  isCanonical,
  isCount,
  isObject,
  type JsonObject,
  textField,
  without,
} from "./json.ts";
import { parseObject } from "./storable.ts";

/** V1 metadata keys whose elements are blocks in V2, in the order new blocks take. */
export const ITEM_KINDS = ["images", "attachments", "function_call", "tool_calls"] as const;

export type ItemKind = typeof ITEM_KINDS[number];

const KINDS: ReadonlySet<string> = new Set(ITEM_KINDS);

export function isItemKind(key: string): key is ItemKind {
  return KINDS.has(key);
}

/** Returns the element that shows a block; `undefined` when none does. */
export function itemOf(block: unknown, kind: ItemKind): unknown {
  const type = field(block, "type");
  if (type === "text") return undefined;
  // Set on blocks that came from a V1 key which shares its block type with another key.
  const marker = field(field(block, "extras"), "v1");
  if (kind === "tool_calls" || kind === "function_call") {
    const isMarked = marker === "function_call";
    if (type !== "tool_call" || isMarked !== (kind === "function_call")) return undefined;
    return callItem(block, kind);
  }
  if (type !== "image" && type !== "audio" && type !== "file") return undefined;
  const source = field(block, "source");
  const url = field(source, "kind") === "url" ? textField(source, "url") : undefined;
  const isMarked = type === "image" && marker === "images";
  if (url === undefined || isMarked !== (kind === "images")) return undefined;
  if (kind === "images") return url;
  const size = field(block, "size");
  const item: Record<string, unknown> = { url };
  const mediaType = textField(block, "media_type");
  if (mediaType !== undefined) item.content_type = mediaType;
  if (type === "image") return item;
  const name = textField(block, "filename");
  if (name !== undefined) item.name = name;
  if (isCount(size)) item.size = size;
  return item;
}

function callItem(block: unknown, kind: ItemKind): unknown {
  const id = textField(block, "tool_call_id");
  const name = textField(block, "name");
  if (id === undefined || name === undefined) return undefined;
  const call = { name, arguments: argumentsOf(block) };
  return kind === "function_call" ? call : { id, type: "function", function: call };
}

/** Which elements to put, and into which message. */
export interface ItemsPut {
  readonly kind: ItemKind;
  readonly items: readonly unknown[];
  readonly messageId: unknown;
}

/**
 * Returns blocks that show exactly `items`: unchanged elements keep their block, changed ones (same
 * id or url) keep what V1 cannot show. Places of old blocks are filled in order.
 */
export function putItems(content: readonly unknown[], put: ItemsPut): readonly unknown[] {
  const { kind, messageId } = put;
  const isSlot = content.map((block) => itemOf(block, kind) !== undefined);
  if (!isSlot.includes(true)) {
    const blocks = put.items.map((item) => blockOf(item, { kind, old: undefined, messageId }));
    return content.length === 0 ? blocks : content.concat(blocks);
  }
  const slots = content.filter((_, place) => isSlot[place]);
  const blocks = match(slots, put);
  const last = isSlot.lastIndexOf(true);
  let next = 0;
  return content.flatMap((block, place) => {
    if (!isSlot[place]) return [block];
    const from = next++;
    return blocks.slice(from, place === last ? undefined : from + 1);
  });
}

function match(slots: readonly unknown[], { kind, items, messageId }: ItemsPut): unknown[] {
  const shown = slots.map((block) => itemOf(block, kind));
  const free = new Set(slots.keys());
  const take = (fits: (item: unknown) => boolean): unknown => {
    for (const place of free) {
      if (!fits(shown[place])) continue;
      free.delete(place);
      return slots[place];
    }
    return undefined;
  };
  // Equal elements first, so that a changed one cannot take the block of one that only moved.
  const kept = items.map((item) => take((old) => equal(old, item)));
  return items.map((item, place) => {
    if (kept[place] !== undefined) return kept[place];
    const old = take((other) => kind === "function_call" || isSameItem(other, item));
    return blockOf(item, { kind, old, messageId });
  });
}

function isSameItem(first: unknown, second: unknown): boolean {
  return ["id", "url"].some((key) => {
    const value = field(first, key);
    return value !== undefined && equal(value, field(second, key));
  });
}

interface BlockOptions {
  readonly kind: ItemKind;
  /** Block whose other keys are kept. */
  readonly old: unknown;
  readonly messageId: unknown;
}

function blockOf(item: unknown, { kind, old, messageId }: BlockOptions): JsonObject {
  switch (kind) {
    case "images":
      return { type: "image", source: { kind: "url", url: item }, extras: { v1: "images" } };
    case "attachments":
      return attachmentBlock(item, old);
    case "tool_calls": {
      const fresh = { type: "tool_call", tool_call_id: field(item, "id"), state: "complete" };
      return putCall(field(item, "function"), withoutCall(old) ?? fresh);
    }
    case "function_call": {
      // V1 gave this call no id, V2 needs one: the same for the same message, every time.
      const id = `call_${typeof messageId === "string" ? messageId : ""}`;
      const extras = { v1: "function_call" };
      const fresh = { type: "tool_call", tool_call_id: id, state: "complete", extras };
      return putCall(item, withoutCall(old) ?? fresh);
    }
  }
}

function withoutCall(block: unknown): Record<string, unknown> | undefined {
  return isObject(block) ? without(block, ["input", "arguments_raw"]) : undefined;
}

/** Puts a call's name and arguments into its block, and returns it. */
export function putCall(call: unknown, block: Record<string, unknown>): JsonObject {
  const raw = textField(call, "arguments") ?? "";
  const input = parseObject(raw);
  block.name = field(call, "name");
  block.input = input ?? null;
  // Long numbers: JavaScript would not write them back as they were, so the text stays the truth.
  const isExact = input !== undefined && !/[0-9][0-9.]{15}/.test(raw) && isCanonical(raw, input);
  if (!isExact) block.arguments_raw = raw;
  return block;
}

/** Returns the arguments of a call as text, exactly as they were given where they are known. */
export function argumentsOf(block: unknown): string {
  return textField(block, "arguments_raw") ?? canonical(field(block, "input") ?? {});
}

function attachmentBlock(item: unknown, old: unknown): JsonObject {
  const type = attachmentType(item);
  const fresh = { type, source: { kind: "url", url: field(item, "url") } };
  const base = isObject(old) && field(old, "type") === type
    ? without(old, ["media_type", "filename", "size"])
    : fresh;
  const block: Record<string, unknown> = { ...base };
  for (const [key, from] of ATTACHMENT_KEYS) {
    const value = field(item, from);
    if (value !== undefined) block[key] = value;
  }
  return block;
}

const ATTACHMENT_KEYS = [
  ["media_type", "content_type"],
  ["filename", "name"],
  ["size", "size"],
] as const;

function attachmentType(item: unknown): "image" | "audio" | "file" {
  const mediaType = textField(item, "content_type") ?? "";
  // An image block has no place for a name or a size.
  const isBare = field(item, "name") === undefined && field(item, "size") === undefined;
  if (mediaType.startsWith("image/") && isBare) return "image";
  return mediaType.startsWith("audio/") ? "audio" : "file";
}
