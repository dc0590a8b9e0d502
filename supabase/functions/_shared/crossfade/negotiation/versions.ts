/**
 * Reading version numbers, and refusing those that cannot be served.
 *
 * @module
 */

import { SUPPORTED_VERSIONS, type Version, type VersionSource } from "../contract.ts";
import { Problem } from "../http/errors.ts";

/** The supported versions as headers and messages name them. */
export const SUPPORTED = SUPPORTED_VERSIONS.join(", ");

/** Reads a version number from text such as `2`, `v2` or `V2.0`. */
export function normaliseVersion(text: string): number | undefined {
  const match = /^[vV]?([1-9][0-9]{0,2})(\.0)?$/.exec(text.trim());
  return match === null ? undefined : Number(match[1]);
}

export function isSupported(version: number | undefined): version is Version {
  return version === 1 || version === 2;
}

/** What one source says: a version it asks for, or why it cannot be served. */
export type Said =
  | { readonly source: VersionSource; readonly version: Version; readonly problem?: undefined }
  | { readonly source: VersionSource; readonly problem: Problem };

/** Makes the refusal of a version; the supported list goes on every one. */
export function refuse(
  type: "invalid-api-version" | "unsupported-api-version" | "ambiguous-api-version",
  at: { readonly status: number; readonly source: VersionSource; readonly requested: string },
): Said {
  const what = type.startsWith("invalid")
    ? "is malformed"
    : type.startsWith("ambiguous")
    ? "names several versions"
    : "is not supported";
  const detail = `API version "${at.requested}" ${what}; supported are ${SUPPORTED}`;
  const members = {
    requested: at.requested,
    source: at.source,
    supported: SUPPORTED_VERSIONS.map(String),
  };
  return { source: at.source, problem: new Problem(type, { status: at.status, detail, members }) };
}
