/**
 * What every function reads of its environment: addresses, keys, ages of the flags, the end of V1.
 *
 * @module
 */

import { isTrue } from "../flags/environment.ts";
import { checkDeprecation, type Deprecation } from "../http/http.ts";

export type Environment = Readonly<Record<string, string>>;

export interface Settings {
  readonly url: string;
  readonly publishableKey: string;
  readonly secretKey: string;
  readonly captureMetrics: boolean;
  readonly timeoutMs?: number;
  readonly ages: { readonly softAgeMs?: number; readonly hardAgeMs?: number };
  /** What createCrossfadeFunction takes as it is. */
  readonly serving: {
    readonly deprecation: Deprecation;
    readonly disabledVersions: readonly number[];
    readonly retiredVersions: readonly number[];
    readonly verbose: boolean;
  };
}

/**
 * Reads the settings.
 *
 * @throws {Error} naming a variable without which the function cannot work
 */
export function readSettings(environment: Environment): Settings {
  const captureMetrics = environment.CAPTURE_METRICS;
  return {
    url: required(environment, "SUPABASE_URL"),
    publishableKey: readKey(environment, "SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_ANON_KEY"),
    secretKey: readKey(environment, "SUPABASE_SECRET_KEYS", "SUPABASE_SERVICE_ROLE_KEY"),
    captureMetrics: captureMetrics === undefined || isTrue(captureMetrics),
    ...milliseconds("timeoutMs", environment.CROSSFADE_TIMEOUT_MS),
    ages: {
      ...milliseconds("softAgeMs", environment.CROSSFADE_SOFT_AGE_MS),
      ...milliseconds("hardAgeMs", environment.CROSSFADE_HARD_AGE_MS),
    },
    serving: {
      deprecation: readNotice(environment),
      disabledVersions: numbers(environment.CROSSFADE_DISABLED_VERSIONS),
      retiredVersions: numbers(environment.CROSSFADE_RETIRED_VERSIONS),
      verbose: isTrue(environment.VERBOSE_LOGGING),
    },
  };
}

/** Returns a variable. @throws {Error} naming the variable if it is missing or empty */
export function required(environment: Environment, name: string): string {
  const value = environment[name];
  if (value) return value;
  throw new Error(`Cannot start: environment variable ${name} is missing`);
}

/**
 * Reads the key named `default` of a JSON object of keys, else the older variable.
 *
 * @throws {Error} naming both if neither holds a key
 */
export function readKey(environment: Environment, keys: string, legacy: string): string {
  const text = environment[keys];
  if (text) {
    const all: unknown = JSON.parse(text);
    if (typeof all === "object" && all !== null && "default" in all) return String(all.default);
  }
  const value = environment[legacy];
  if (value) return value;
  throw new Error(`Cannot start: environment variables ${keys} and ${legacy} are missing`);
}

/** Reads a time of at least 0; what is no number counts as not set. */
export function milliseconds<Name extends string>(
  name: Name,
  text: string | undefined,
): { readonly [key in Name]?: number } {
  const value = Number(text);
  if (!text?.trim() || !(value >= 0)) return {};
  return { [name]: value } as { [key in Name]: number };
}

/** Reads a date such as `2026-12-31` or `2026-12-31T23:59:59Z`, in seconds since 1970. */
export function readDate(text: string): number | undefined {
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : Math.floor(time / 1000);
}

function numbers(text: string | undefined): number[] {
  return (text ?? "").split(",").map(Number).filter((value) => value > 0);
}

function readNotice(environment: Environment): Deprecation {
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
