/**
 * What the parts of the chat function hand to each other.
 *
 * @module
 */

import type { BackendChoice } from "../_shared/crossfade/choose_backend.ts";
import type { Context } from "../_shared/crossfade/evaluate.ts";
import type { Version } from "../_shared/crossfade/contract.ts";
import type { Negotiated } from "../_shared/crossfade/negotiation.ts";
import type { View } from "../_shared/crossfade/flags_client.ts";

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

/** What a handler answers: still without headers. */
export interface Answer {
  readonly status: number;
  /** JSON body; none for 204. */
  readonly body?: unknown;
  /** Backend that served it. */
  readonly backend: Version;
  /** Set when backend 2 was tried first and failed. */
  readonly fellBack?: Fallback;
  /** Milliseconds spent waiting for the model: not the migration's doing. */
  readonly modelMs?: number;
  /** Work to compare with the other table after the response, in stage shadow. */
  readonly shadow?: () => Promise<boolean | undefined>;
}

export interface Fallback {
  readonly fenced: boolean;
  readonly cause: unknown;
}
