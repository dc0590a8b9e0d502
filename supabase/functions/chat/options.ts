/**
 * What the chat function is made of.
 *
 * @module
 */

import type { BodyLimits, Deprecation } from "../_shared/crossfade/http/http.ts";
import type { FlagsClient } from "../_shared/crossfade/flags/flags_client.ts";
import type { RequestRecorder } from "../_shared/crossfade/serve/metrics.ts";
import type { Converter } from "./adapters/api_version_router.ts";
import type { OpenFeatures } from "./store/feature_store.ts";
import type { Model } from "./model/model.ts";
import type { OperatorRpc } from "./operator_rpc.ts";
import type { OpenStore } from "./store/store.ts";

export interface AppOptions {
  readonly openStore: OpenStore;
  readonly openFeatures: OpenFeatures;
  /** Opens the operators' functions with the rights of who calls. */
  readonly openOperator: OperatorRpc;
  readonly converter: Converter;
  readonly flags: FlagsClient;
  readonly recorder: Pick<RequestRecorder, "record">;
  readonly model?: Model;
  /** Part of the keys of kept answers. @defaultValue name of the built-in model */
  readonly modelName?: string;
  /** @defaultValue "chat_messages" */
  readonly pair?: string;
  readonly deprecation?: Deprecation;
  readonly disabledVersions?: readonly number[];
  readonly retiredVersions?: readonly number[];
  readonly limits?: BodyLimits;
  /** Keeps the isolate alive for work behind a response. */
  readonly background?: (work: Promise<unknown>) => void;
  readonly random?: () => number;
  readonly now?: () => Date;
  /** Refuse V1 clients while the flags have not been read. @defaultValue false */
  readonly compatibilityOff?: boolean;
  /** Log every request. @defaultValue false */
  readonly verbose?: boolean;
  readonly log?: (message: string, error?: unknown) => void;
}

/** The options with every default filled in. */
export type Options = Required<AppOptions>;
