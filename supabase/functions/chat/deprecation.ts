/**
 * When the V1 format ends: from rows of crossfade.settings, else from the environment.
 *
 * @module
 */

import { checkDeprecation, type Deprecation } from "../_shared/crossfade/http/http.ts";
import type { Snapshot } from "../_shared/crossfade/flags/snapshot.ts";
import type { Options } from "./options.ts";

/** Names of the settings. */
export const DEPRECATION_SETTINGS = {
  deprecatedAt: "chat_v1_deprecated_at",
  sunsetAt: "chat_v1_sunset_at",
  link: "chat_v1_deprecation_link",
} as const;

// A snapshot never changes, so each is read once.
const known = new WeakMap<Snapshot, Deprecation>();

/** Reads a date such as `2026-12-31` or `2026-12-31T23:59:59Z`, in seconds since 1970. */
export function readDate(text: string): number | undefined {
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : Math.floor(time / 1000);
}

/**
 * Returns the notice that goes onto answers in V1.
 *
 * A row that cannot be read, or a sunset before the deprecation, is logged and left out: a typing
 * mistake must not fail requests.
 */
export function readDeprecation(
  snapshot: Snapshot,
  { deprecation, log }: Pick<Options, "deprecation" | "log">,
): Deprecation {
  const found = known.get(snapshot);
  if (found !== undefined) return found;
  const read = merge(snapshot, deprecation, log);
  known.set(snapshot, read);
  return read;
}

function merge(snapshot: Snapshot, base: Deprecation, log: Options["log"]): Deprecation {
  const date = (name: string): number | undefined => {
    const text = snapshot.settings.get(name);
    if (typeof text !== "string" || text === "") return undefined;
    const seconds = readDate(text);
    if (seconds === undefined) log(`Setting ${name} is not a date and is left out`);
    return seconds;
  };
  const link = snapshot.settings.get(DEPRECATION_SETTINGS.link);
  const deprecatedAt = date(DEPRECATION_SETTINGS.deprecatedAt);
  const sunsetAt = date(DEPRECATION_SETTINGS.sunsetAt);
  const notice = {
    ...base,
    ...(deprecatedAt === undefined ? {} : { deprecatedAt }),
    ...(sunsetAt === undefined ? {} : { sunsetAt }),
    // What stands between the brackets of a Link header must be an address.
    ...(typeof link === "string" && /^https?:\/\/[^\s<>"]+$/.test(link) ? { link } : {}),
  };
  try {
    return checkDeprecation(notice);
  } catch (error) {
    log("The sunset of V1 is left out", error);
    const { sunsetAt: _, ...rest } = notice;
    return rest;
  }
}
