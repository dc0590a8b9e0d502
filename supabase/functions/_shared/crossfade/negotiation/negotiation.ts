/**
 * Which wire version a request speaks: header, then Accept, then URL, then the fixed default.
 *
 * A source that is present but bad is refused and never falls through to a lower one: a client that
 * asked for V2 must not silently get V1.
 *
 * @module
 */

import { SUPPORTED_VERSIONS, type Version, type VersionSource } from "../contract.ts";
import { type Accepted, readAccept, readMediaRange } from "./accept.ts";
import { readElement, readList } from "./media.ts";
import { Problem } from "../http/errors.ts";
import { isSupported, normaliseVersion, refuse, type Said } from "./versions.ts";

export interface NegotiationOptions {
  /** Name of the function: the first segment of the path, after an optional /functions/v1. */
  readonly functionName: string;
  /** Vendor in `application/vnd.<vendor>.v2+json`. @defaultValue "crossfade" */
  readonly vendor?: string;
  /** Versions that are switched off for now: answered with 503. */
  readonly disabled?: readonly number[];
  /** Versions that are gone for good: answered with 410. */
  readonly retired?: readonly number[];
}

export interface Negotiated {
  readonly kind: "negotiated";
  readonly version: Version;
  readonly source: VersionSource;
  /** Path after function name and version, beginning with a slash. */
  readonly resource: string;
  /** True when a lower source asked for something else. */
  readonly conflict: boolean;
  /** Content type of a JSON answer. */
  readonly contentType: string;
}

export interface Refused {
  readonly kind: "refused";
  readonly source: VersionSource;
  readonly problem: Problem;
}

const JSON_TYPE = "application/json; charset=utf-8";

/** Decides the wire version of a request, or says why it cannot be served. */
export function negotiate(
  request: { readonly headers: Headers; readonly path: string },
  options: NegotiationOptions,
): Negotiated | Refused {
  const header = request.headers.get("x-api-version");
  const accept = readAccept(request.headers.get("accept"), options.vendor ?? "crossfade");
  const url = splitPath(request.path, options.functionName);
  const chosen = fromHeader(header) ?? accept.answer ??
    notExcluded(fromUrl(url.version) ?? { source: "default", version: 1 }, accept);
  if (chosen.problem !== undefined) {
    return { kind: "refused", source: chosen.source, problem: chosen.problem };
  }
  const problem = unavailable(chosen, options);
  if (problem !== undefined) return { kind: "refused", source: chosen.source, problem };
  const { version, source } = chosen;
  const vendorType = accept.vendorTypes.get(version);
  return {
    kind: "negotiated",
    version,
    source,
    resource: url.resource,
    conflict: differs(chosen, accept.answer) || differs(chosen, fromUrl(url.version)),
    contentType: vendorType ?? JSON_TYPE,
  };
}

function differs(chosen: Said & { version: Version }, other: Said | undefined): boolean {
  if (other === undefined || other.source === chosen.source) return false;
  return other.problem !== undefined || other.version !== chosen.version;
}

/** The other version where the client does not take (q=0) the one it would get. */
function notExcluded(said: Said, { excluded }: Accepted): Said {
  if (said.problem !== undefined || !excluded.has(said.version)) return said;
  const left = SUPPORTED_VERSIONS.find((version) => !excluded.has(version));
  if (left !== undefined) return { source: "accept", version: left };
  const requested = [...excluded].join(", ");
  return refuse("unsupported-api-version", { status: 406, source: "accept", requested });
}

function fromHeader(header: string | null): Said | undefined {
  if (header === null) return undefined;
  const at = { status: 400, source: "header", requested: header } as const;
  // A list (RFC 9110, 5.6.1): repeated headers are joined with a comma, empty elements do not count.
  const versions = readList(header).map((element) =>
    element === undefined || element.parameters.size > 0
      ? undefined
      : normaliseVersion(element.value)
  );
  const [first] = versions;
  if (versions.length === 0 || versions.includes(undefined)) {
    return refuse("invalid-api-version", at);
  }
  if (versions.some((version) => version !== first)) return refuse("ambiguous-api-version", at);
  if (!isSupported(first)) return refuse("unsupported-api-version", at);
  return { source: "header", version: first };
}

function fromUrl(version: number | undefined): Said | undefined {
  if (version === undefined) return undefined;
  if (isSupported(version)) return { source: "url", version };
  const at = { status: 404, source: "url", requested: String(version) } as const;
  return refuse("unsupported-api-version", at);
}

/**
 * Takes the function's name and a version segment off a path.
 *
 * Only the segment right after the name counts; the `v1` of `/functions/v1` is not ours.
 */
export function splitPath(
  path: string,
  functionName: string,
): { readonly version: number | undefined; readonly resource: string } {
  const segments = path.split("/").filter((segment) => segment !== "");
  if (segments[0] === "functions" && segments[1] === "v1") segments.splice(0, 2);
  if (segments[0] !== functionName) {
    return { version: undefined, resource: `/${segments.join("/")}` };
  }
  segments.shift();
  // The letter is needed here: /chat/2/... is a resource.
  const version = /^[vV]/.test(segments[0] ?? "") ? normaliseVersion(segments[0] ?? "") : undefined;
  if (version !== undefined) segments.shift();
  return { version, resource: `/${segments.join("/")}` };
}

function unavailable(
  { version, source }: { readonly version: Version; readonly source: VersionSource },
  { disabled = [], retired = [] }: NegotiationOptions,
): Problem | undefined {
  const members = {
    requested: String(version),
    source,
    supported: SUPPORTED_VERSIONS.map(String),
  };
  if (retired.includes(version)) {
    const detail = `API version ${version} is no longer offered`;
    return new Problem("version-retired", { status: 410, detail, members });
  }
  if (disabled.includes(version)) {
    const detail = `API version ${version} is switched off for now`;
    const headers = { "Retry-After": "60" };
    return new Problem("version-disabled", { status: 503, detail, members, headers });
  }
  return undefined;
}

/**
 * Returns the version of a request's body: its content type's, else the negotiated one.
 *
 * The shape of the body is never looked at, because a plain old message looks like a new one.
 *
 * @throws {Problem} 415 for a content type that is not JSON or of a version that is not supported
 */
export function bodyVersion(
  contentType: string | null,
  { wire, vendor = "crossfade" }: { readonly wire: Version; readonly vendor?: string },
): Version {
  if (contentType === null || contentType === "application/json") return wire;
  const range = readMediaRange(readElement(contentType), vendor);
  // JSON between systems is UTF-8 (RFC 8259, 8.1); read as that, another charset would be garbled.
  const isUtf8 = /^utf-?8$/i.test(range?.charset ?? "utf-8");
  if (range !== undefined && isUtf8 && (range.vendor || range.type === "application/json")) {
    if (range.requested === undefined) return wire;
    if (isSupported(range.version)) return range.version;
  }
  const detail = `Content type "${contentType}" is not supported; send application/json`;
  throw new Problem("unsupported-media-type", {
    status: 415,
    detail,
    members: { supported: SUPPORTED_VERSIONS.map(String) },
  });
}

/**
 * Refuses a body that is tagged with another version than it is read as.
 *
 * @throws {Problem} 400 if `schema_version` differs
 */
export function checkBodyTag(body: unknown, version: Version): void {
  if (typeof body !== "object" || body === null || !("schema_version" in body)) return;
  if (body.schema_version === version) return;
  const requested = String(body.schema_version);
  throw new Problem("body-version-mismatch", {
    status: 400,
    detail: `The body says schema_version ${requested}, but the request is of version ${version}`,
    members: { requested, supported: SUPPORTED_VERSIONS.map(String) },
  });
}
