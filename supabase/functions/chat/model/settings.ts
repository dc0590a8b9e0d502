/**
 * Which model answers, from the environment.
 *
 * @module
 */

import { type Environment, milliseconds } from "../../_shared/crossfade/serve/settings.ts";
import type { AppOptions } from "../options.ts";
import { endpointModel } from "./endpoint.ts";

/** Reads MODEL_URL, MODEL_KEY, MODEL_NAME and MODEL_TIMEOUT_MS; without the first nothing is set. */
export function readModel(environment: Environment): Pick<AppOptions, "model" | "modelName"> {
  const { MODEL_URL: url, MODEL_KEY: key } = environment;
  const name = environment.MODEL_NAME || "default";
  if (!url) return {};
  const model = endpointModel({
    ...{ url, name },
    ...(key ? { key } : {}),
    ...milliseconds("timeoutMs", environment.MODEL_TIMEOUT_MS),
  });
  return { model, modelName: name };
}
