/**
 * The V2 message being built, and how each V1 part is put into it.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import { isItemKind, ITEM_KINDS, putItems } from "./items.ts";
import { equal, isObject, own, textField, without } from "./json.ts";
import { FreeKeys, isRecognised, putTokens } from "./metadata.ts";
import { putText, toolResultPlace, withKey } from "./text.ts";
import { roleToV1, type Shown, shownParts } from "./view.ts";

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
  metadata: Message;
  /** So that a draft can be looked at like a message. */
  [column: string]: unknown;
}

/** A draft and what V1 shows of it. */
export interface Start {
  readonly draft: Draft;
  readonly shown: Shown;
}

/** Starts from nothing, with the text put in. */
export function startFresh(message: Message): Start {
  const { content = "", sequence_number } = message;
  const call = textField(message.metadata, "tool_call_id");
  const isResult = message.role === "assistant" && call !== undefined;
  const draft: Draft = {
    role: isResult ? "tool" : message.role,
    seq: sequence_number,
    parent_id: null,
    status: "complete",
    content: isResult
      ? [{ type: "tool_result", tool_call_id: call, output: content, is_error: false }]
      : content === ""
      ? []
      : [{ type: "text", text: content }],
    model: null,
    usage: null,
    finish_reason: null,
    error: null,
    edited_at: null,
    deleted_at: null,
    metadata: {},
  };
  const metadata = isResult ? { tool_call_id: call } : {};
  return { draft, shown: { content: String(content), metadata, sequence_number } };
}

/** Starts from the stored V2 message. */
export function startFrom(base: Message, message: Message): Start {
  const { role = roleToV1(base.role) } = message;
  const draft: Draft = {
    // The role comes first: what a tool result shows depends on it.
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
  return { draft, shown: shownParts(draft) };
}

/** What metadata a draft shall show, and what it shows. */
export interface MetadataPut {
  readonly metadata: Message;
  readonly shown: Message;
  readonly message: Message;
}

/** Changes the draft so that it shows the wanted metadata. */
export function putMetadata(draft: Draft, put: MetadataPut): void {
  const { metadata, shown } = put;
  let rest: FreeKeys | undefined;
  let hasLists = false;
  for (const key of Object.keys(metadata)) {
    if (isItemKind(key)) hasLists = true;
    else if (!equal(metadata[key], own(shown, key))) rest = putKey(draft, key, put, rest);
  }
  for (const key of Object.keys(shown)) {
    if (isItemKind(key)) hasLists = true;
    else if (!Object.hasOwn(metadata, key)) rest = putKey(draft, key, put, rest);
  }
  // Last and in one order, whatever the order of the keys: new blocks come in the order of the lists.
  for (const kind of hasLists ? ITEM_KINDS : []) {
    if (!equal(own(metadata, kind), own(shown, kind))) rest = putKey(draft, kind, put, rest);
  }
  if (rest !== undefined) draft.metadata = rest.toMetadata();
}

/** Puts one key in its place and returns the keys without one, if they are needed by now. */
function putKey(
  draft: Draft,
  key: string,
  put: MetadataPut,
  rest: FreeKeys | undefined,
): FreeKeys | undefined {
  const value = own(put.metadata, key);
  const known = isRecognised(key, value) ? value : undefined;
  const isPlaced = putColumn(draft, { key, value: known, message: put.message }) &&
    known !== undefined;
  if (isPlaced && rest === undefined && isEmpty(draft.metadata)) return undefined;
  const free = rest ?? new FreeKeys(draft.metadata);
  free.put(key, isPlaced ? undefined : value);
  return free;
}

function isEmpty(value: Message): boolean {
  for (const _ in value) return false;
  return true;
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
  if (textField(old, "message") !== undefined) draft.error = null;
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
