/**
 * What a client may send in one version of the message format.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import type { Message } from "../types.ts";

export interface Format {
  readonly version: Version;
  /** Fields a client may set. */
  readonly editable: readonly string[];
  /** What a new message has where the client said nothing. */
  readonly defaults: Message;
  /** Returns what is wrong with a field's value, or `undefined`. */
  readonly check: (field: string, value: unknown) => string | undefined;
  /** Fields without which a message cannot be made. */
  readonly required: readonly string[];
}

// Sent back by clients that return a whole message; the server decides them, so they are ignored.
const SERVER_FIELDS = new Set([
  "id",
  "chat_id",
  "user_id",
  "created_at",
  "updated_at",
  "seq",
  "sequence_number",
  "schema_version",
  // Only says for whom the request is; where it is to be kept it belongs into the metadata.
  "agent_id",
]);

/**
 * Returns the fields of a body that the client may set.
 *
 * @throws {Problem} 422 naming the first field that is unknown or wrong: dropping it would lose data
 */
export function readFields(format: Format, body: Message): Message {
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(body)) {
    if (SERVER_FIELDS.has(name)) continue;
    const fault = format.editable.includes(name)
      ? format.check(name, value)
      : `is not a field of a V${format.version} message`;
    if (fault !== undefined) throw invalid(`Field "${name}" ${fault}`);
    fields[name] = value;
  }
  return fields;
}

/** Returns the fields of a new message. @throws {Problem} 422 */
export function readNewFields(format: Format, body: Message): Message {
  for (const name of format.required) {
    if (body[name] === undefined) throw invalid(`Field "${name}" is missing`);
  }
  return { ...format.defaults, ...readFields(format, body) };
}

export function invalid(detail: string): Problem {
  return new Problem("invalid-message", { status: 422, detail });
}

export function isObject(value: unknown): value is Message {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
