/**
 * What the handlers of messages work with.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { type Converter, convertResponse } from "../adapters/api_version_router.ts";
import type { FeatureStore } from "../store/feature_store.ts";
import type { OperatorRpc } from "../../_shared/crossfade/serve/operator_rpc.ts";
import type { MessageStore } from "../store/store.ts";
import type { Call, Message } from "../types.ts";
import type { Format } from "./format.ts";
import { V1 } from "./v1.ts";
import { V2 } from "./v2.ts";

export interface Tools {
  readonly pair: string;
  readonly converter: Converter;
  readonly store: MessageStore;
  readonly features: FeatureStore;
  readonly openOperator: OperatorRpc;
  /** Takes a flags version that an answer carried. */
  readonly noteVersion: (version: unknown) => void;
  /** Name of the model, as part of the keys of kept answers. */
  readonly modelName: string;
  readonly now: () => Date;
  readonly background: (work: Promise<unknown>) => void;
  readonly log: (message: string, error?: unknown) => void;
}

export const FORMATS: Readonly<Record<Version, Format>> = { 1: V1, 2: V2 };

/** Returns a stored row in the client's format. */
export function toWire(call: Call, tools: Tools, row: Message, backend: Version): Message {
  const direction = { from: backend, to: call.negotiated.version };
  return convertResponse(tools.converter, row, direction);
}

/** Returns a row that must be there. @throws {Problem} 404 */
export async function found(row: Promise<Message | undefined>, id: string): Promise<Message> {
  const value = await row;
  if (value === undefined) throw missing(id);
  return value;
}

export function missing(id: string): Problem {
  return new Problem("not-found", { status: 404, detail: `There is no message "${id}"` });
}
