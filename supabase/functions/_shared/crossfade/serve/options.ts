/**
 * What a function is made of.
 *
 * @module
 */

import type { BackendChoice } from "../flags/choose_backend.ts";
import type { Context } from "../flags/evaluate.ts";
import type { FlagsClient, View } from "../flags/flags_client.ts";
import type { StreamEvent } from "../http/sse.ts";
import type { BodyLimits, Deprecation } from "../http/http.ts";
import type { Version } from "../contract.ts";
import type { Negotiated, NegotiationOptions, Refused } from "../negotiation/negotiation.ts";
import type { Body, Call, Message, Route } from "./call.ts";
import type { HashCaller } from "./caller_hash.ts";
import type { Converter } from "./convert.ts";
import type { RequestRecorder } from "./metrics.ts";
import type { OpenRows } from "./rows.ts";

/** One pair of a function. With `tables` it has addresses of its own: see resource.ts. */
export interface PairOptions {
  /** Name under which the pair is registered. */
  readonly pair: string;
  readonly resource?: Resource;
}

/** How the rows of a pair are offered: list, create, read, edit and delete. */
export interface Resource {
  /** @defaultValue the pair's name after a slash */
  readonly path?: string;
  readonly tables: Readonly<Record<Version, string>>;
  readonly convert: Converter;
  /** Columns of the primary key, the same in both tables. @defaultValue ["id"] */
  readonly key?: readonly string[];
  /** Fields that a client may send, by version; everything else is refused by name. */
  readonly fields: Readonly<Record<Version, readonly string[]>>;
  /** Columns by which a list may be narrowed, the same in both tables. @defaultValue the key's */
  readonly filters?: readonly string[];
  /**
   * Column that keeps the repeated request of an X-Idempotency-Key: a uuid, unique. Without one such
   * requests are refused by name, because a second row could not be told from the first.
   *
   * @defaultValue "id" where that is the whole key and clients may send it
   */
  readonly idempotency?: string;
}

export interface FunctionOptions {
  /** Name of the function: the first segment of its addresses. */
  readonly name: string;
  /** The first one serves the routes that name none. */
  readonly pairs: readonly [PairOptions, ...PairOptions[]];
  /** Addresses beside those of the pairs' resources. */
  readonly routes?: readonly Route[];
  readonly flags: FlagsClient;
  readonly recorder: Pick<RequestRecorder, "record">;
  /** How rows are reached; needed by pairs with a resource. */
  readonly openRows?: OpenRows;
  /** Reads of a request for whom it is, beside the user. */
  readonly readContext?: (request: Request, url: URL, body: Body) => Context;
  /** Reads the version that a client speaks. @defaultValue by the rules of negotiation.ts */
  readonly detectVersion?: (
    request: { readonly headers: Headers; readonly path: string },
    options: NegotiationOptions,
  ) => Negotiated | Refused;
  /** Chooses the backend. @defaultValue by stage, switches and cohort of the pair */
  readonly routeRequest?: (view: View, pair: string, context: Context) => BackendChoice;
  /** Called before a handler; may refuse. */
  readonly admit?: (call: Call) => void;
  /** Shows an event of V2 in another version; `undefined` where that version has none. */
  readonly convertEvent?: (event: StreamEvent, to: Version) => StreamEvent | undefined;
  readonly deprecation?: Deprecation;
  readonly disabledVersions?: readonly number[];
  readonly retiredVersions?: readonly number[];
  readonly limits?: BodyLimits;
  /** Keeps the isolate alive for work behind a response. */
  readonly background?: (work: Promise<unknown>) => void;
  readonly random?: () => number;
  /**
   * Verifies a user's token before anything is done for it, as jwks.ts does; may refuse.
   *
   * @defaultValue nothing: the platform and the Data API verify it
   */
  readonly checkToken?: (authorization: string) => Promise<void> | void;
  /** Tells callers of failures apart. @defaultValue by a key that each isolate makes itself */
  readonly hashCaller?: HashCaller;
  /** Log every request. @defaultValue false */
  readonly verbose?: boolean;
  readonly log?: (message: string, error?: unknown) => void;
  /** Further members of the discovery document. */
  readonly about?: Message;
}

/** The options with every default filled in. */
export type Options =
  & Required<Omit<FunctionOptions, "openRows" | "routes">>
  & Pick<FunctionOptions, "openRows">;
