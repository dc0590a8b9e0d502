/**
 * The API version inside a media type, in `Accept` and `Content-Type`.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import { type Element, readList, readWeight } from "./media.ts";
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
  readonly charset: string | undefined;
}

/** What an Accept header says. */
export interface Accepted {
  /** The version asked for, a refusal, or nothing when the header leaves the version open. */
  readonly answer: Said | undefined;
  /** Vendor types the client takes, by version: only they are echoed as the content type. */
  readonly vendorTypes: ReadonlyMap<Version, string>;
  /** Versions that the client does not take (q=0). */
  readonly excluded: ReadonlySet<Version>;
}

const OPEN: Accepted = { answer: undefined, vendorTypes: new Map(), excluded: new Set() };

/** Types whose answers this API can give; `text/event-stream` for streamed replies. */
const OFFERED = new Set(["*/*", "application/*", "application/json", "text/event-stream"]);

/** Reads one media range or content type; `undefined` for what is none. */
export function readMediaRange(element: Element | undefined, vendor: string) {
  if (element === undefined) return undefined;
  const { value, parameters } = element;
  const type = value.toLowerCase();
  const own = vendorVersion(type, vendor);
  const requested = own.version ?? parameters.get("version") ?? parameters.get("v");
  const range: MediaRange = {
    type,
    requested,
    version: requested === undefined ? undefined : normaliseVersion(requested),
    vendor: own.vendor,
    quality: readWeight(parameters.get("q")),
    charset: parameters.get("charset"),
  };
  return range;
}

function vendorVersion(name: string, vendor: string): { vendor: boolean; version?: string } {
  const prefix = `application/vnd.${vendor}`;
  if (!name.startsWith(prefix) || !name.endsWith("+json")) return { vendor: false };
  const middle = name.slice(prefix.length, -"+json".length);
  if (middle === "") return { vendor: true };
  return middle.startsWith(".") ? { vendor: true, version: middle.slice(1) } : { vendor: false };
}

/** Returns whether a range can be answered with JSON (or a stream of it) of ours. */
function isOffered(range: MediaRange): boolean {
  return range.vendor || OFFERED.has(range.type);
}

/** Decides what an Accept header says about the version. */
export function readAccept(header: string | null, vendor: string): Accepted {
  if (header === null || header === "*/*" || header === "application/json") return OPEN;
  const all = readList(header)
    .map((element) => readMediaRange(element, vendor))
    .filter((range) => range !== undefined && isOffered(range)) as MediaRange[];
  const ranges = all.filter((range) => range.quality > 0);
  const excluded = new Set(
    all.filter((range) => range.quality === 0).map((range) => range.version).filter(isSupported),
  );
  const good = ranges.filter((range) =>
    range.requested === undefined || isSupported(range.version)
  );
  const vendorTypes = new Map<Version, string>();
  for (const { vendor: own, version } of good) {
    if (own && isSupported(version)) {
      vendorTypes.set(version, `application/vnd.${vendor}.v${version}+json`);
    }
  }
  // A stream without a version leaves it to the JSON that is asked for beside it.
  const telling = good.filter((range) =>
    range.type !== "text/event-stream" || range.requested !== undefined
  );
  // Quality first, then a version before none, then the highest version.
  const best =
    telling.toSorted((a, b) => b.quality - a.quality || (b.version ?? 0) - (a.version ?? 0))[0];
  const version = best?.version;
  const answer = isSupported(version)
    ? { source: "accept", version } as const
    : good.length === 0
    ? refusal(ranges)
    : undefined;
  return { answer, vendorTypes, excluded };
}

/** Every range that could be answered asks for a version that cannot: 406. */
function refusal(ranges: readonly MediaRange[]): Said | undefined {
  const worst = ranges.find((range) => range.version !== undefined) ?? ranges[0];
  if (worst === undefined) return undefined;
  const requested = worst.version === undefined ? worst.requested ?? "" : String(worst.version);
  const type = worst.version === undefined ? "invalid-api-version" : "unsupported-api-version";
  return refuse(type, { status: 406, source: "accept", requested });
}
