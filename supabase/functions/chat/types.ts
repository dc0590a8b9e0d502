/**
 * What the parts of the chat function hand to each other.
 *
 * @module
 */

import type { BackendChoice } from "../_shared/crossfade/flags/choose_backend.ts";
import type { Context } from "../_shared/crossfade/flags/evaluate.ts";
import type { Version } from "../_shared/crossfade/contract.ts";
import type { Negotiated } from "../_shared/crossfade/negotiation/negotiation.ts";
import type { View } from "../_shared/crossfade/flags/flags_client.ts";
import type { StreamEvent } from "../_shared/crossfade/http/sse.ts";

/** A message in either format, or a part of one; its format is always said beside it. */
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
  /** Conversation the request is about, when its address or body says so. */
  readonly context: Context;
  readonly choice: BackendChoice;
  /** Body as it was sent, with the version it is written in. */
  readonly body: Body;
}

export interface Body {
  readonly value: Message;
  readonly version: Version;
}

/** Makes a streamed answer: tells V2 events as they happen, then returns what was done. */
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
  /** Milliseconds spent waiting for the model: not the migration's doing. */
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
