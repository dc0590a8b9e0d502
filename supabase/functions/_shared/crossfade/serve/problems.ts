/**
 * What a failed store or an unexpected error looks like to the client.
 *
 * @module
 */

import { Problem } from "../http/errors.ts";
import { ConversionError } from "./convert.ts";
import { StoreError } from "../http/store_error.ts";

/** Turns whatever was thrown into a problem; texts of unexpected errors stay inside. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof StoreError) return fromStore(error);
  if (error instanceof ConversionError) {
    const detail = "What is sent or stored here cannot be shown in the version asked for";
    return new Problem("invalid-message", { status: 422, detail, cause: error.cause });
  }
  const detail = "The request failed unexpectedly; its id is in the log";
  return new Problem("internal-error", { status: 500, detail, cause: error });
}

function fromStore(error: StoreError): Problem {
  const cause = error;
  if (error.status === 401) {
    const detail = "The access token is not valid or has expired";
    const headers = { "WWW-Authenticate": "Bearer" };
    return new Problem("unauthorized", { status: 401, detail, headers, cause });
  }
  if (error.code === "42501") {
    return new Problem("forbidden", { status: 403, detail: "This row is not yours", cause });
  }
  if (error.code === "23503") {
    return new Problem("not-found", {
      status: 404,
      detail: "What this belongs to does not exist",
      cause,
    });
  }
  if (error.duplicate) {
    return new Problem("conflict", { status: 409, detail: "There is such a row already", cause });
  }
  if (error.invalid) {
    const detail = `The database refuses the value: ${error.message}`;
    return new Problem("invalid-message", { status: 422, detail, cause });
  }
  const detail = "The database cannot answer now; try again";
  const headers = { "Retry-After": "1" };
  return new Problem("upstream-unavailable", { status: 503, detail, headers, cause });
}
