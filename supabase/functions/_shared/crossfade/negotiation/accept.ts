/**
 * The API version inside a media type, in `Accept` and `Content-Type`.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import { isSupported, normaliseVersion, refuse, type Said } from "./versions.ts";

/** One media range. */
export interface MediaRange {
  readonly type: string;
  /** Text of the version as it was written, if there is one. */
  readonly requested: string | undefined;
  /** The version, if it is well-formed. */
  readonly version: number | undefined;
  readonly vendor: boolean;
  readonly quality: number;
}

/** What an Accept header says. */
export interface Accepted {
  /** The version asked for, a refusal, or nothing when the header leaves the version open. */
  readonly answer: Said | undefined;
  /** Vendor types the client takes, by version: only they are echoed as the content type. */
  readonly vendorTypes: ReadonlyMap<Version, string>;
}

const OPEN: Accepted = { answer: undefined, vendorTypes: new Map() };

/** Types whose answers this API can give; `text/event-stream` for streamed replies. */
const OFFERED = new Set(["*/*", "application/*", "application/json", "text/event-stream"]);

/** Reads one media range or content type. */
export function readMediaRange(text: string, vendor: string): MediaRange {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim());
  const name = type.toLowerCase();
  const own = vendorVersion(name, vendor);
  let requested = own.version;
  let quality = 1;
  for (const parameter of parameters) {
    const [key = "", value = ""] = parameter.split("=", 2).map((part) => part.trim());
    const plain = value.replace(/^"(.*)"$/, "$1");
    if (/^(version|v)$/i.test(key)) requested ??= plain;
    else if (/^q$/i.test(key)) quality = Math.min(Math.max(Number(plain), 0), 1);
  }
  return {
    type: name,
    requested,
    version: requested === undefined ? undefined : normaliseVersion(requested),
    vendor: own.vendor,
    // A weight that is no number is treated as absent, as most servers do.
    quality: Number.isNaN(quality) ? 1 : quality,
  };
}

function vendorVersion(name: string, vendor: string): { vendor: boolean; version?: string } {
  const prefix = `application/vnd.${vendor}`;
  if (!name.startsWith(prefix) || !name.endsWith("+json")) return { vendor: false };
  const middle = name.slice(prefix.length, -"+json".length);
  if (middle === "") return { vendor: true };
  return middle.startsWith(".") ? { vendor: true, version: middle.slice(1) } : { vendor: false };
}

/** Returns whether a range can be answered with JSON (or a stream of it) of ours. */
export function isOffered(range: MediaRange): boolean {
  return range.vendor || OFFERED.has(range.type);
}

/** Decides what an Accept header says about the version. */
export function readAccept(header: string | null, vendor: string): Accepted {
  if (header === null || header === "*/*" || header === "application/json") return OPEN;
  const ranges = header.split(",")
    .map((part) => readMediaRange(part, vendor))
    .filter((range) => range.quality > 0 && isOffered(range));
  const good = ranges.filter((range) =>
    range.requested === undefined || isSupported(range.version)
  );
  const vendorTypes = new Map<Version, string>();
  for (const { vendor: own, version } of good) {
    if (own && isSupported(version)) {
      vendorTypes.set(version, `application/vnd.${vendor}.v${version}+json`);
    }
  }
  // Quality first, then a version before none, then the highest version.
  const best =
    good.toSorted((a, b) => b.quality - a.quality || (b.version ?? 0) - (a.version ?? 0))[0];
  if (best !== undefined) {
    const { version } = best;
    return {
      answer: isSupported(version) ? { source: "accept", version } : undefined,
      vendorTypes,
    };
  }
  return { answer: refusal(ranges), vendorTypes };
}

/** Every range that could be answered asks for a version that cannot: 406. */
function refusal(ranges: readonly MediaRange[]): Said | undefined {
  const worst = ranges.find((range) => range.version !== undefined) ?? ranges[0];
  if (worst === undefined) return undefined;
  const requested = worst.version === undefined ? worst.requested ?? "" : String(worst.version);
  const type = worst.version === undefined ? "invalid-api-version" : "unsupported-api-version";
  return refuse(type, { status: 406, source: "accept", requested });
}
