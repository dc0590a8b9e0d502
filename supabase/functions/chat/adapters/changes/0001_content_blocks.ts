/**
 * Version 2: the content of a message becomes typed blocks.
 *
 * The same rules in SQL: sql/pairs/chat_messages.sql. Both are held together by
 * tests/vectors/messages_*.json.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import type { Change } from "./change.ts";
import { putMetadata, startFresh, startFrom } from "./draft.ts";
import { copy, isObject, setKey } from "./json.ts";
import { putText } from "./text.ts";
import { roleToV1, shownParts } from "./view.ts";

/** Fields that are not the same in both versions; all others are passed on as they are. */
const OWN_FIELDS: ReadonlySet<string> = new Set([
  "role",
  "content",
  "metadata",
  "sequence_number",
  "seq",
  "parent_id",
  "status",
  "model",
  "usage",
  "finish_reason",
  "error",
  "schema_version",
  "edited_at",
  "deleted_at",
]);

/** Typed blocks instead of plain text. */
export const contentBlocks: Change = {
  id: "0001_content_blocks",
  description:
    "Content is an ordered list of typed blocks; tool calls, attachments, reasoning, usage, status and error leave metadata.",
  version: 2,
  up,
  down,
};

function sharedFields(message: Message): Record<string, unknown> {
  const shared: Record<string, unknown> = {};
  for (const key of Object.keys(message)) {
    const value = message[key];
    if (value === undefined || OWN_FIELDS.has(key)) continue;
    setKey(shared, key, typeof value === "object" ? copy(value) : value);
  }
  return shared;
}

function up(message: Message, base?: Message): Message {
  const { draft, shown } = base === undefined ? startFresh(message) : startFrom(base, message);
  // A field that the message does not have is not touched.
  const { content = shown.content, metadata = shown.metadata } = message;
  if (content !== shown.content) {
    const text = content === "" ? undefined : String(content);
    draft.content = putText(draft.content, { kind: "content", role: draft.role, text });
  }
  const { sequence_number = shown.sequence_number } = message;
  if (sequence_number !== shown.sequence_number) draft.seq = sequence_number;
  if (isObject(metadata)) putMetadata(draft, { metadata, shown: shown.metadata, message });
  const result = sharedFields(message);
  result.role = draft.role;
  // Absent in, absent out: the table's default must still apply to a new message.
  if (draft.seq !== undefined) result.seq = draft.seq;
  result.parent_id = draft.parent_id;
  result.status = draft.status;
  // Without a base the blocks, usage and error were made here, of text and numbers only.
  result.content = base === undefined ? draft.content : copy(draft.content);
  result.metadata = copy(draft.metadata);
  result.model = draft.model;
  result.usage = base === undefined ? draft.usage : copy(draft.usage);
  result.finish_reason = draft.finish_reason;
  result.error = base === undefined ? draft.error : copy(draft.error);
  result.schema_version = 2;
  result.edited_at = draft.edited_at;
  result.deleted_at = draft.deleted_at;
  return result;
}

function down(message: Message): Message {
  const shown = shownParts(message);
  const result = sharedFields(message);
  result.role = roleToV1(message.role);
  result.content = shown.content;
  result.metadata = shown.metadata;
  if (message.seq !== undefined) result.sequence_number = shown.sequence_number;
  return result;
}
