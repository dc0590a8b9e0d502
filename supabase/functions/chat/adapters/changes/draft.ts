/**
 * The V2 message being built, and how each V1 part is put into it.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import { isItemKind, ITEM_KINDS, putItems } from "./items.ts";
import { equal, isObject, own, ownText, without } from "./json.ts";
import { isRecognised, joinMetadata, putKey, putTokens, splitMetadata } from "./metadata.ts";
import { putText, toolResultPlace, withKey } from "./text.ts";
import { roleToV1 } from "./view.ts";

/** The part of a V2 message that V1 does not simply share. */
export interface Draft {
  role: unknown;
  seq: unknown;
  parent_id: unknown;
  status: unknown;
  content: readonly unknown[];
  model: unknown;
  usage: unknown;
  finish_reason: unknown;
  error: unknown;
  edited_at: unknown;
  deleted_at: unknown;
  metadata: unknown;
  /** So that a draft can be looked at like a message. */
  [column: string]: unknown;
}

/** Starts from nothing: the text is not in yet, except in a tool's result. */
export function freshDraft(message: Message): Draft {
  const { metadata } = message;
  const call = ownText(metadata, "tool_call_id");
  const isResult = message.role === "assistant" && call !== undefined;
  return {
    role: isResult ? "tool" : message.role,
    seq: message.sequence_number,
    parent_id: null,
    status: "complete",
    content: isResult ? [toolResult(call, message.content)] : [],
    model: null,
    usage: null,
    finish_reason: null,
    error: null,
    edited_at: null,
    deleted_at: null,
    metadata: {},
  };
}

function toolResult(call: string, output: unknown): Message {
  return { type: "tool_result", tool_call_id: call, output, is_error: false };
}

/**
 * Starts from the stored V2 message. The role comes first: what a tool result shows depends on it.
 */
export function draftFrom(base: Message, message: Message): Draft {
  const { role = roleToV1(base.role) } = message;
  return {
    role: roleToV1(base.role) === role ? base.role : role,
    seq: base.seq,
    parent_id: base.parent_id ?? null,
    status: base.status ?? "complete",
    content: Array.isArray(base.content) ? base.content : [],
    model: base.model ?? null,
    usage: base.usage ?? null,
    finish_reason: base.finish_reason ?? null,
    error: base.error ?? null,
    edited_at: base.edited_at ?? null,
    deleted_at: base.deleted_at ?? null,
    metadata: isObject(base.metadata) ? base.metadata : {},
  };
}

/** What metadata a draft shall show, and what it shows. */
export interface MetadataPut {
  readonly metadata: Message;
  readonly shown: Message;
  readonly message: Message;
}

/** Changes the draft so that it shows the wanted metadata. */
export function putMetadata(draft: Draft, { metadata, shown, message }: MetadataPut): void {
  const keys = Object.keys({ ...shown, ...metadata })
    .filter((key) => !equal(own(metadata, key), own(shown, key)));
  if (keys.length === 0) return;
  // New blocks of several lists come in one order, whatever the order of the keys.
  keys.sort((a, b) => listOrder(a) - listOrder(b));
  let rest = splitMetadata(draft.metadata);
  for (const key of keys) {
    const value = own(metadata, key);
    const known = isRecognised(key, value) ? value : undefined;
    const hasPlace = putColumn(draft, { key, value: known, message });
    rest = putKey(rest, key, hasPlace && known !== undefined ? undefined : value);
  }
  draft.metadata = joinMetadata(rest);
}

function listOrder(key: string): number {
  return (ITEM_KINDS as readonly string[]).indexOf(key);
}

interface ColumnPut {
  readonly key: string;
  /** `undefined` clears the place. */
  readonly value: unknown;
  readonly message: Message;
}

/** Puts a value where V2 has a place for it; returns whether there is one. */
function putColumn(draft: Draft, { key, value, message }: ColumnPut): boolean {
  if (isItemKind(key)) {
    const items = value === undefined ? [] : Array.isArray(value) ? value : [value];
    draft.content = putItems(draft.content, { kind: key, items, messageId: message.id });
    return true;
  }
  switch (key) {
    case "model":
    case "finish_reason":
    case "parent_id":
      draft[key] = value ?? null;
      return true;
    case "tokens":
      draft.usage = putTokens(draft.usage, value);
      return true;
    case "edited":
      draft.edited_at = value === undefined
        ? null
        : message.updated_at ?? message.created_at ?? null;
      // A message that has not been stored yet has no time that could stand for the edit.
      return draft.edited_at !== null;
    case "error":
      putError(draft, value);
      return true;
    case "reasoning": {
      const text = typeof value === "string" ? value : undefined;
      draft.content = putText(draft.content, { kind: "reasoning", role: draft.role, text });
      return true;
    }
    case "tool_call_id":
    case "name":
      return putToolResult(draft, key, value);
    default:
      return false;
  }
}

function putError(draft: Draft, message: unknown): void {
  const old = isObject(draft.error) ? draft.error : {};
  if (message !== undefined) {
    draft.error = { code: "unknown", ...old, message };
    draft.status = "error";
    return;
  }
  if (ownText(old, "message") !== undefined) draft.error = null;
  if (draft.status === "error") draft.status = "complete";
}

function putToolResult(draft: Draft, key: "tool_call_id" | "name", value: unknown): boolean {
  const place = toolResultPlace(draft.content, draft.role);
  const block = place === undefined ? undefined : draft.content[place];
  if (place === undefined || !isObject(block)) return false;
  draft.content = value === undefined
    ? draft.content.with(place, without(block, [key]))
    : withKey(draft.content, place, { [key]: value });
  return true;
}
