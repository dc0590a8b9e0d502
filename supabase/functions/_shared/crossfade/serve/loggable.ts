/**
 * What of an error may stand in a log.
 *
 * @module
 */

import { Problem } from "../http/errors.ts";
import { StoreError } from "../http/store_error.ts";

/**
 * Returns an error as text for a log: codes, and never a value.
 *
 * PostgreSQL puts whole rows into the details of an error ("Failing row contains ...") and values
 * into its message; a JSON error quotes what it could not read. Both are what users wrote.
 */
export function loggable(error: unknown): string {
  if (error instanceof StoreError) {
    const code = error.code === "" ? "no code" : error.code;
    // Without an answer of the database there is nothing of anybody's rows in the text.
    return `StoreError ${code}, status ${error.status}${error.refused ? "" : `: ${error.message}`}`;
  }
  if (error instanceof Problem) {
    const cause = error.cause === undefined ? "" : `: ${loggable(error.cause)}`;
    return `Problem ${error.type}, status ${error.status}${cause}`;
  }
  if (error instanceof SyntaxError) return "SyntaxError";
  if (error instanceof Error) return error.stack ?? `${error.name}: ${error.message}`;
  return error === undefined ? "" : `a thrown ${typeof error}`;
}
