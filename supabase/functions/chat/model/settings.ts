/**
 * Which model answers, from the environment.
 *
 * @module
 */

import { type Environment, milliseconds } from "../../_shared/crossfade/serve/settings.ts";
import type { AppOptions } from "../options.ts";
import { type ProviderName, PROVIDERS } from "../formats/requests.ts";
import { endpointModel } from "./endpoint.ts";

/**
 * Reads MODEL_URL, MODEL_FORMAT, MODEL_KEY, MODEL_NAME and MODEL_TIMEOUT_MS; without the first nothing
 * is set.
 *
 * @throws {Error} if the format is none
 */
export function readModel(environment: Environment): Pick<AppOptions, "model" | "modelName"> {
  const { MODEL_URL: url, MODEL_KEY: key } = environment;
  const name = environment.MODEL_NAME || "default";
  if (!url) return {};
  const provider = environment.MODEL_FORMAT || "openai_chat";
  if (!isProvider(provider)) {
    const names = Object.keys(PROVIDERS).join(", ");
    throw new Error(`Cannot start: MODEL_FORMAT "${provider}" is not one of ${names}`);
  }
  const model = endpointModel({
    ...{ url, name, provider },
    ...(key ? { key } : {}),
    ...milliseconds("timeoutMs", environment.MODEL_TIMEOUT_MS),
  });
  return { model, modelName: name };
}

function isProvider(name: string): name is ProviderName {
  return Object.hasOwn(PROVIDERS, name);
}
