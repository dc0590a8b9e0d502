/**
 * What V1 shows of a V2 message.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import { itemOf } from "./items.ts";
import { field, isObject, textField } from "./json.ts";
import { showFreeKeys, tokensOf } from "./metadata.ts";
import { BORDER, textOf } from "./text.ts";

const LEAST_INTEGER = -(2 ** 31);
const LARGEST_INTEGER = 2 ** 31 - 1;

/** Returns the V1 role that shows a V2 role. */
export function roleToV1(role: unknown): unknown {
  if (role === "tool") return "assistant";
  return role === "developer" ? "system" : role;
}

/** The parts of a V1 message that are not columns of the same name in V2. */
export interface Shown {
  readonly content: string;
  readonly metadata: Message;
  readonly sequence_number: unknown;
}

/** Returns what V1 shows of a V2 message, sharing nothing with it. */
export function shownParts(message: Message): Shown {
  const metadata = showFreeKeys(message.metadata);
  // What V2 has a place for hides a free key of the same name.
  const show = (key: string, value: unknown): void => {
    if (value !== undefined && value !== null) metadata[key] = value;
  };
  show("model", message.model);
  show("finish_reason", message.finish_reason);
  show("parent_id", message.parent_id);
  show("tokens", tokensOf(message.usage));
  show("error", textField(message.error, "message"));
  if (message.edited_at !== undefined && message.edited_at !== null) metadata.edited = true;
  const { seq } = message;
  const isInteger = typeof seq === "number" && seq >= LEAST_INTEGER && seq <= LARGEST_INTEGER;
  const content = showBlocks(message, show);
  return { content, metadata, sequence_number: isInteger ? seq : null };
}

/** Returns the V1 content and shows in metadata what else the blocks hold. */
function showBlocks(message: Message, show: (key: string, value: unknown) => void): string {
  const { content: blocks, role } = message;
  if (!Array.isArray(blocks)) return "";
  const only: unknown = blocks[0];
  if (blocks.length === 1 && field(only, "type") === "text") return textField(only, "text") ?? "";
  const parts: Parts = { images: [], attachments: [], function_call: [], tool_calls: [] };
  for (const block of blocks) if (isObject(block)) collect(parts, block, role);
  show("reasoning", parts.reasoning);
  show("function_call", parts.function_call[0]);
  for (const kind of ["images", "attachments", "tool_calls"] as const) {
    if (parts[kind].length > 0) show(kind, parts[kind]);
  }
  show("tool_call_id", textField(parts.result, "tool_call_id"));
  show("name", textField(parts.result, "name"));
  return parts.content ?? "";
}

interface Parts {
  content?: string;
  reasoning?: string;
  /** The tool result that V1 shows: the first one of a tool row. */
  result?: Message;
  images: unknown[];
  attachments: unknown[];
  function_call: unknown[];
  tool_calls: unknown[];
}

function collect(parts: Parts, block: Message, role: unknown): void {
  switch (block.type) {
    case "tool_result":
      if (role === "tool") parts.result ??= block;
      return collectText(parts, "content", textOf(block, "content", role));
    case "text":
    case "refusal":
      return collectText(parts, "content", textOf(block, "content", role));
    case "reasoning":
      return collectText(parts, "reasoning", textOf(block, "reasoning", role));
    case "tool_call":
      return collectItem(parts, block, ["function_call", "tool_calls"]);
    case "image":
    case "audio":
    case "file":
      return collectItem(parts, block, ["images", "attachments"]);
  }
}

function collectText(parts: Parts, kind: "content" | "reasoning", text: string | undefined): void {
  if (text === undefined) return;
  const before = parts[kind];
  parts[kind] = before === undefined ? text : before + BORDER + text;
}

type Lists = "images" | "attachments" | "function_call" | "tool_calls";

function collectItem(parts: Parts, block: Message, kinds: readonly Lists[]): void {
  for (const kind of kinds) {
    const item = itemOf(block, kind);
    if (item !== undefined) parts[kind].push(item);
  }
}
