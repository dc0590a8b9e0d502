/**
 * When the V1 format ends: from rows of crossfade.settings whose names begin
 * with the function's, else from the environment.
 *
 * @module
 */

import { checkDeprecation, type Deprecation } from "../http/http.ts";
import type { Snapshot } from "../flags/snapshot.ts";
import type { Options } from "./options.ts";
import { readDate } from "./settings.ts";

// A snapshot never changes, so each is read once.
const known = new WeakMap<Snapshot, Map<string, Deprecation>>();

/**
 * Returns the notice that goes onto answers in V1.
 *
 * A row that cannot be read, or a sunset before the deprecation, is logged and left out: a typing
 * mistake must not fail requests.
 */
export function readDeprecation(
  snapshot: Snapshot,
  options: Pick<Options, "name" | "deprecation" | "log">,
): Deprecation {
  const found = known.get(snapshot) ?? new Map<string, Deprecation>();
  known.set(snapshot, found);
  const notice = found.get(options.name) ?? merge(snapshot, options);
  found.set(options.name, notice);
  return notice;
}

function merge(
  snapshot: Snapshot,
  { name: prefix, deprecation, log }: Pick<Options, "name" | "deprecation" | "log">,
): Deprecation {
  const date = (name: string): number | undefined => {
    const text = snapshot.settings.get(name);
    if (typeof text !== "string" || text === "") return undefined;
    const seconds = readDate(text);
    if (seconds === undefined) log(`Setting ${name} is not a date and is left out`);
    return seconds;
  };
  const link = snapshot.settings.get(`${prefix}_v1_deprecation_link`);
  const deprecatedAt = date(`${prefix}_v1_deprecated_at`);
  const sunsetAt = date(`${prefix}_v1_sunset_at`);
  const notice = {
    ...deprecation,
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
