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
import { draftFrom, freshDraft, putMetadata } from "./draft.ts";
import { copy, defined, isObject, without } from "./json.ts";
import { putText } from "./text.ts";
import { roleToV1, shownParts } from "./view.ts";

const V1_ONLY = ["sequence_number"];
const V2_ONLY = [
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
];
/** Typed blocks instead of plain text. */
export const contentBlocks: Change = {
  id: "0001_content_blocks",
  description:
    "Content is an ordered list of typed blocks; tool calls, attachments, reasoning, usage, status and error leave metadata.",
  version: 2,
  up,
  down,
};

function up(message: Message, base?: Message): Message {
  const draft = base === undefined ? freshDraft(message) : draftFrom(base, message);
  const shown = shownParts(draft);
  // A field that the message does not have is not touched.
  const { content: text = shown.content, metadata = shown.metadata } = message;
  if (text !== shown.content) {
    const put = text === "" ? undefined : String(text);
    draft.content = putText(draft.content, { kind: "content", role: draft.role, text: put });
  }
  const { sequence_number = shown.sequence_number } = message;
  if (sequence_number !== shown.sequence_number) draft.seq = sequence_number;
  if (isObject(metadata)) putMetadata(draft, { metadata, shown: shown.metadata, message });
  return defined({
    ...without(message, [...V1_ONLY, ...V2_ONLY]),
    ...draft,
    content: copy(draft.content),
    metadata: copy(draft.metadata),
    usage: copy(draft.usage),
    error: copy(draft.error),
    schema_version: 2,
  });
}

function down(message: Message): Message {
  const { content, metadata, sequence_number } = shownParts(message);
  return defined({
    ...without(message, V2_ONLY),
    role: roleToV1(message.role),
    content,
    metadata: copy(metadata),
    // Absent in, absent out: the table's default must still apply to a new message.
    sequence_number: message.seq === undefined ? undefined : sequence_number,
  });
}
