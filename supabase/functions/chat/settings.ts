/**
 * Settings of the function from its environment.
 *
 * @module
 */

import { isTrue } from "../_shared/crossfade/flags/environment.ts";
import { checkDeprecation, type Deprecation } from "../_shared/crossfade/http/http.ts";
import type { AppOptions } from "./options.ts";
import { readDate } from "./deprecation.ts";
import { endpointModel } from "./model/endpoint_model.ts";

type Environment = Readonly<Record<string, string>>;

export interface Settings {
  readonly url: string;
  readonly publishableKey: string;
  readonly secretKey: string;
  readonly pair: string;
  readonly captureMetrics: boolean;
  readonly timeoutMs?: number;
  readonly ages: { readonly softAgeMs?: number; readonly hardAgeMs?: number };
  readonly app: Pick<
    AppOptions,
    | "pair"
    | "model"
    | "modelName"
    | "deprecation"
    | "disabledVersions"
    | "retiredVersions"
    | "compatibilityOff"
    | "verbose"
  >;
}

/**
 * Reads the settings.
 *
 * @throws {Error} naming a variable without which the function cannot work
 */
export function readSettings(environment: Environment): Settings {
  const pair = environment.CROSSFADE_PAIR || "chat_messages";
  const captureMetrics = environment.CAPTURE_METRICS;
  return {
    url: required(environment.SUPABASE_URL, "SUPABASE_URL"),
    publishableKey: readKey(environment, "SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_ANON_KEY"),
    secretKey: readKey(environment, "SUPABASE_SECRET_KEYS", "SUPABASE_SERVICE_ROLE_KEY"),
    pair,
    captureMetrics: captureMetrics === undefined || isTrue(captureMetrics),
    ...milliseconds("timeoutMs", environment.CROSSFADE_TIMEOUT_MS),
    ages: {
      ...milliseconds("softAgeMs", environment.CROSSFADE_SOFT_AGE_MS),
      ...milliseconds("hardAgeMs", environment.CROSSFADE_HARD_AGE_MS),
    },
    app: {
      pair,
      deprecation: readDeprecation(environment),
      disabledVersions: numbers(environment.CROSSFADE_DISABLED_VERSIONS),
      retiredVersions: numbers(environment.CROSSFADE_RETIRED_VERSIONS),
      compatibilityOff: isTrue(environment.DISABLE_COMPATIBILITY),
      verbose: isTrue(environment.VERBOSE_LOGGING),
      ...readModel(environment),
    },
  };
}

function required(value: string | undefined, name: string): string {
  if (value) return value;
  throw new Error(`Cannot start: environment variable ${name} is missing`);
}

/** Reads the key named `default` of a JSON object of keys, else the older variable. */
function readKey(environment: Environment, keys: string, legacy: string): string {
  const text = environment[keys];
  if (text) {
    const all: unknown = JSON.parse(text);
    if (typeof all === "object" && all !== null && "default" in all) return String(all.default);
  }
  return required(environment[legacy], `${keys} or ${legacy}`);
}

function milliseconds<Name extends string>(
  name: Name,
  text: string | undefined,
): { readonly [key in Name]?: number } {
  const value = Number(text);
  if (!text || !(value >= 0)) return {};
  return { [name]: value } as { [key in Name]: number };
}

function numbers(text: string | undefined): number[] {
  return (text ?? "").split(",").map(Number).filter((value) => value > 0);
}

function readDeprecation(environment: Environment): Deprecation {
  const deprecatedAt = seconds(environment.V1_DEPRECATED_AT);
  const sunsetAt = seconds(environment.V1_SUNSET_AT);
  const link = environment.V1_DEPRECATION_LINK;
  return checkDeprecation({
    ...(deprecatedAt === undefined ? {} : { deprecatedAt }),
    ...(sunsetAt === undefined ? {} : { sunsetAt }),
    ...(link ? { link } : {}),
  });
}

function seconds(text: string | undefined): number | undefined {
  if (!text) return undefined;
  const value = readDate(text);
  if (value === undefined) throw new Error(`Cannot start: "${text}" is not a date`);
  return value;
}

function readModel(environment: Environment): Pick<AppOptions, "model" | "modelName"> {
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
