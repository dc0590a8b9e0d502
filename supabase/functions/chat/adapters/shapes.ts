/**
 * Tables of the first API as they are found: other names, metadata as text, columns of their own.
 *
 * The adapter knows one V1 form; a project whose rows look otherwise describes them here. As
 * everywhere, what is unchanged stays the same to the byte: pass the row that is stored.
 *
 * @module
 */

import type { Message } from "../types.ts";
import { canonical, copy, equal, isObject, own, setKey, without } from "./changes/json.ts";
import { parseObject } from "./changes/storable.ts";

/** How rows differ from the V1 form; what is absent does not. */
export interface V1Shape {
  /** Column of the chat's id, such as `session_id` or `thread_id`. */
  readonly chatId?: string;
  /** Whether the column of metadata is JSON text instead of an object. */
  readonly metadataAsText?: boolean;
  /**
   * Columns that hold one metadata key each, such as `{ image_paths: "images" }`; null is an absent
   * key.
   */
  readonly columns?: Readonly<Record<string, string>>;
}

/**
 * Returns a row in the V1 form. Never throws: text that is no object stays beside, as a field that
 * neither version knows.
 */
export function fromShape(row: Message, shape: V1Shape): Message {
  const { chatId = "chat_id", columns = {} } = shape;
  const metadata = metadataOf(row, shape);
  const message = copy(without(row, metadata === undefined ? [] : ["metadata"])) as Writable;
  if (chatId !== "chat_id" && Object.hasOwn(message, chatId)) {
    message.chat_id = message[chatId];
    delete message[chatId];
  }
  const lifted: Writable = { ...metadata };
  for (const [column, key] of Object.entries(columns)) {
    const value = own(row, column);
    // Where metadata has the key as well, each stays where it is.
    if (value === undefined || Object.hasOwn(lifted, key)) continue;
    delete message[column];
    if (value !== null) setKey(lifted, key, copy(value));
  }
  if (metadata !== undefined || Object.keys(lifted).length > 0) message.metadata = lifted;
  return message;
}

/**
 * Returns a V1 message as a row of the project's table.
 *
 * @param stored the row as it is: parts that did not change keep their exact form
 */
export function toShape(message: Message, shape: V1Shape, stored: Message = {}): Message {
  const { chatId = "chat_id", columns = {}, metadataAsText = false } = shape;
  const row = copy(message) as Writable;
  if (chatId !== "chat_id" && Object.hasOwn(row, "chat_id")) {
    row[chatId] = row.chat_id;
    delete row.chat_id;
  }
  const before = metadataOf(stored, shape);
  if (isObject(row.metadata)) {
    const metadata: Writable = { ...row.metadata };
    for (const [column, key] of Object.entries(columns)) {
      if (Object.hasOwn(before ?? {}, key)) {
        if (Object.hasOwn(stored, column)) row[column] = copy(stored[column]);
        continue;
      }
      row[column] = own(metadata, key) ?? null;
      if (row[column] !== null) delete metadata[key];
    }
    row.metadata = metadataAsText ? textOf(metadata, { stored, before }) : metadata;
  }
  return inOrderOf(stored, row);
}

type Writable = Record<string, unknown>;

function metadataOf({ metadata }: Message, { metadataAsText = false }: V1Shape) {
  if (!metadataAsText) return isObject(metadata) ? metadata : undefined;
  return typeof metadata === "string" ? parseObject(metadata) : undefined;
}

function textOf(
  metadata: Message,
  { stored, before }: { readonly stored: Message; readonly before: Message | undefined },
): unknown {
  // Blanks and order of keys are the owner's; so is text that nobody could read, and now is empty.
  const isUnread = before === undefined && typeof stored.metadata === "string";
  return equal(metadata, isUnread ? {} : before) ? stored.metadata : canonical(metadata);
}

/** Returns a row with the keys of the stored one first, as they stand there. */
function inOrderOf(stored: Message, row: Writable): Message {
  const ordered: Writable = {};
  for (const key of [...Object.keys(stored), ...Object.keys(row)]) {
    if (Object.hasOwn(row, key)) setKey(ordered, key, row[key]);
  }
  return ordered;
}
