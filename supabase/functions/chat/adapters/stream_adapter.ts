/**
 * Streamed replies in both formats: events of V2, what V1 clients see of them, and the way back.
 *
 * | V2 | V1 |
 * | --- | --- |
 * | `message_start` {api_version, id, chat_id, role} | `start` {api_version, id, chat_id, role} |
 * | `text_delta` {text} | `delta` {content} |
 * | `tool_call`, `tool_result` | - |
 * | `message_complete` {message} | `done` {message} |
 * | `error` {problem document} | `error` {problem document} |
 *
 * The first event says the version, the last one holds the whole message as it was stored.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { StreamEvent } from "../../_shared/crossfade/http/sse.ts";
import { readList, readWeight } from "../../_shared/crossfade/negotiation/media.ts";
import type { Message } from "../types.ts";
import { type Converter, convertResponse } from "./api_version_router.ts";

/** From which format into which. */
export interface StreamConversion {
  readonly from: Version;
  readonly to: Version;
}

const DOWN: Readonly<Record<string, string | undefined>> = {
  message_start: "start",
  text_delta: "delta",
  message_complete: "done",
  error: "error",
};
const UP: Readonly<Record<string, string | undefined>> = {
  start: "message_start",
  delta: "text_delta",
  done: "message_complete",
  error: "error",
};

/** Returns whether a client asks for a stream: by its Accept header or by `stream` in the body. */
export function wantsStream(headers: Headers, body: Message): boolean {
  if (typeof body.stream === "boolean") return body.stream;
  return readList(headers.get("accept") ?? "").some((range) =>
    range?.value.toLowerCase() === "text/event-stream" &&
    readWeight(range.parameters.get("q")) > 0
  );
}

/** Converts one event; `undefined` for one that the other format does not have. */
export function convertEvent(
  converter: Converter,
  { event, data }: StreamEvent,
  { from, to }: StreamConversion,
): StreamEvent | undefined {
  if (from === to) return { event, data: stamped(data, to) };
  const name = (to === 1 ? DOWN : UP)[event];
  if (name === undefined) return undefined;
  const { message, text, content } = data;
  if (name === "delta") return { event: name, data: { content: text } };
  if (name === "text_delta") return { event: name, data: { text: content } };
  if (typeof message === "object" && message !== null) {
    const converted = convertResponse(converter, message as Message, { from, to });
    return { event: name, data: { message: converted } };
  }
  return { event: name, data: stamped(data, to) };
}

function stamped(data: Message, to: Version): Message {
  return "api_version" in data ? { ...data, api_version: String(to) } : data;
}
