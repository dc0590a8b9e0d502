/**
 * What the chat function is made of.
 *
 * @module
 */

import type { FunctionOptions } from "../_shared/crossfade/serve/options.ts";
import type { OperatorRpc } from "../_shared/crossfade/serve/operator_rpc.ts";
import type { Converter } from "../_shared/crossfade/serve/convert.ts";
import type { Model } from "./model/model.ts";
import type { OpenFeatures } from "./store/feature_store.ts";
import type { OpenStore } from "./store/store.ts";

/** The kit's options that chat leaves to who starts it. */
type Kit = Omit<
  FunctionOptions,
  "name" | "pairs" | "routes" | "openRows" | "readContext" | "admit" | "convertEvent" | "about"
>;

export interface AppOptions extends Kit {
  readonly openStore: OpenStore;
  readonly openFeatures: OpenFeatures;
  /** Opens the operators' functions with the rights of who calls. */
  readonly openOperator: OperatorRpc;
  readonly converter: Converter;
  readonly model?: Model;
  /** Part of the keys of kept answers. @defaultValue name of the built-in model */
  readonly modelName?: string;
  /** @defaultValue "chat_messages" */
  readonly pair?: string;
  readonly now?: () => Date;
  /** Refuse V1 clients while the flags have not been read. @defaultValue false */
  readonly compatibilityOff?: boolean;
}
