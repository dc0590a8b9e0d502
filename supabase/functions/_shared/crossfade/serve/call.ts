/**
 * What the parts of a function hand to each other while a request is served.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import type { BackendChoice } from "../flags/choose_backend.ts";
import type { Context } from "../flags/evaluate.ts";
import type { View } from "../flags/flags_client.ts";
import type { StreamEvent } from "../http/sse.ts";
import type { Negotiated } from "../negotiation/negotiation.ts";

/** A row in either format, or a part of one; its format is always said beside it. */
export type Message = Readonly<Record<string, unknown>>;

/** Who calls, as read from the bearer token. See claims.ts for what may be trusted. */
export interface Caller {
  readonly authorization: string;
  readonly userId: string;
}

/** A request in progress. */
export interface Call {
  readonly request: Request;
  readonly url: URL;
  readonly requestId: string;
  readonly negotiated: Negotiated;
  readonly caller: Caller;
  readonly view: View;
  /** Who is asked for, and the conversation when the address or body says so. */
  readonly context: Context;
  /** The pair whose rows the address names. */
  readonly pair: string;
  readonly choice: BackendChoice;
  /** Body as it was sent, with the version it is written in. */
  readonly body: Body;
  /** What the placeholders of the route's path stand for. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface Body {
  readonly value: Message;
  readonly version: Version;
}

/** One address and method. */
export interface Route {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Such as `/messages/{id:uuid}`: a placeholder is one segment. */
  readonly path: string;
  /** Pair whose backend serves it. @defaultValue the function's first pair */
  readonly pair?: string;
  /** Set for functions that operators use: the database decides who that is. */
  readonly operators?: true;
  handle(call: Call): Promise<Answer>;
}

/** Makes a streamed answer: tells events in V2's format as they happen, then returns what was done. */
export type Events = (
  emit: (event: StreamEvent) => void,
  /** Says that the client has gone. */
  signal: AbortSignal,
) => Promise<Answer>;

/** What a handler answers: still without headers. */
export interface Answer {
  readonly status: number;
  /** JSON body; none for 204. */
  readonly body?: unknown;
  /** Answers by a stream of events instead; the outcome is counted when it ends. */
  readonly events?: Events;
  /** Backend that served it. */
  readonly backend: Version;
  /** Set when backend 2 was tried first and failed. */
  readonly fellBack?: Fallback;
  /** Set for what is not traffic of the migration. */
  readonly uncounted?: true;
  /** Milliseconds spent waiting for others, such as a model: not the migration's doing. */
  readonly modelMs?: number;
  /** Work to compare with the other table after the response, in stage shadow. */
  readonly shadow?: () => Promise<boolean | undefined>;
}

export interface Fallback {
  readonly fenced: boolean;
  /** Backend 2 answered, and lacks the row. */
  readonly missing: boolean;
  readonly cause: unknown;
}

export function isObject(value: unknown): value is Message {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
