/**
 * Errors of the HTTP API as RFC 9457 problem documents.
 *
 * @module
 */

import type { ProblemType } from "../contract.ts";

export interface ProblemOptions {
  readonly status: number;
  readonly detail: string;
  /** Further members of the document, such as `requested` or `supported`. */
  readonly members?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

const TITLES: Readonly<Record<ProblemType, string>> = {
  "invalid-api-version": "The API version is malformed",
  "unsupported-api-version": "The API version is not supported",
  "ambiguous-api-version": "Several different API versions were asked for",
  "body-version-mismatch": "The body is of another version than the request says",
  "unsupported-media-type": "The media type of the body is not supported",
  "version-disabled": "The API version is switched off for now",
  "version-retired": "The API version is no longer offered",
  "invalid-body": "The body cannot be read",
  "invalid-message": "The message is not valid",
  "body-too-large": "The body is too large",
  "body-too-deep": "The body is nested too deeply",
  "unauthorized": "A valid access token is needed",
  "forbidden": "This is not allowed",
  "not-found": "There is no such resource",
  "method-not-allowed": "The method is not allowed here",
  "conflict": "The request conflicts with what is stored",
  "upstream-unavailable": "The database or the model did not answer",
  "internal-error": "The request failed",
};

/** An error with an answer: thrown anywhere while a request is handled, turned into a response once. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly type: ProblemType;
  readonly status: number;
  readonly members: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(type: ProblemType, options: ProblemOptions) {
    super(options.detail, options.cause === undefined ? {} : { cause: options.cause });
    this.type = type;
    this.status = options.status;
    this.members = options.members ?? {};
    this.headers = options.headers ?? {};
  }
}

/** What the answer says about the request. */
export interface Occurrence {
  readonly instance: string;
  readonly requestId: string;
}

/**
 * Returns the problem document.
 *
 * `error` repeats `detail`: clients of the first API read `{"error": ...}`, and supabase-py calls
 * `.get("error")` on every failed answer.
 */
export function problemBody(problem: Problem, at: Occurrence): Record<string, unknown> {
  return {
    type: `urn:crossfade:problem:${problem.type}`,
    title: TITLES[problem.type],
    status: problem.status,
    detail: problem.message,
    instance: at.instance,
    code: problem.type.toUpperCase().replaceAll("-", "_"),
    ...problem.members,
    request_id: at.requestId,
    error: problem.message,
  };
}
