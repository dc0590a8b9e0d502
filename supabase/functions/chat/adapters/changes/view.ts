/**
 * What V1 shows of a V2 message.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import { getItems, ITEM_KINDS } from "./items.ts";
import { defined, ownText } from "./json.ts";
import { splitMetadata, tokensOf } from "./metadata.ts";
import { getText, toolResultPlace } from "./text.ts";

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

/** Returns what V1 shows of a V2 message. It may share values with the message. */
export function shownParts(message: Message): Shown {
  const content = Array.isArray(message.content) ? message.content : [];
  const { role, seq } = message;
  const isInteger = typeof seq === "number" && seq >= LEAST_INTEGER && seq <= LARGEST_INTEGER;
  return {
    content: getText(content, "content", role) ?? "",
    metadata: shownMetadata(message, content),
    sequence_number: isInteger ? seq : null,
  };
}

function shownMetadata(message: Message, content: readonly unknown[]): Message {
  const rest = splitMetadata(message.metadata);
  const lists = ITEM_KINDS.map((kind) => {
    const items = getItems(content, kind);
    return [kind, items.length === 0 ? undefined : kind === "function_call" ? items[0] : items];
  });
  const place = toolResultPlace(content, message.role);
  const result = place === undefined ? undefined : content[place];
  // What V2 has a place for hides a free key of the same name, and that hides a legacy one.
  return {
    ...Object.fromEntries([...rest.legacy, ...rest.free]),
    ...defined({
      model: message.model ?? undefined,
      finish_reason: message.finish_reason ?? undefined,
      parent_id: message.parent_id ?? undefined,
      tokens: tokensOf(message.usage),
      error: ownText(message.error, "message"),
      edited: (message.edited_at ?? null) === null ? undefined : true,
      reasoning: getText(content, "reasoning", message.role),
      ...Object.fromEntries(lists),
      tool_call_id: ownText(result, "tool_call_id"),
      name: ownText(result, "name"),
    }),
  };
}
