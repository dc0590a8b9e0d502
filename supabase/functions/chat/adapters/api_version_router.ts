/**
 * Negotiates the wire version, chooses the backend and converts between the two.
 *
 * @module
 */

import type { BackendChoice } from "../../_shared/crossfade/flags/choose_backend.ts";
import type { Context } from "../../_shared/crossfade/flags/evaluate.ts";
import type { View } from "../../_shared/crossfade/flags/flags_client.ts";
import {
  negotiate,
  type Negotiated,
  type NegotiationOptions,
  type Refused,
} from "../../_shared/crossfade/negotiation/negotiation.ts";
import { type Conversion, convert, type Converter } from "../../_shared/crossfade/serve/convert.ts";
import type { Message } from "../types.ts";

export type { Conversion, Converter };
export { convertEvent } from "./stream_adapter.ts";

/** Decides which format the client speaks. */
export function detectVersion(
  request: { readonly headers: Headers; readonly path: string },
  options: NegotiationOptions,
): Negotiated | Refused {
  return negotiate(request, options);
}

/** Decides which table serves; the client's format has no part in it. */
export function routeRequest(view: View, pair: string, context: Context): BackendChoice {
  return view.chooseBackend(pair, context);
}

/** Converts a message of the client into the format of the backend that stores it. */
export function convertRequest(
  converter: Converter,
  message: Message,
  conversion: Conversion,
): Message {
  return convert(converter, message, conversion);
}

/** Converts a stored row into the client's format, without what only the table has. */
export function convertResponse(
  converter: Converter,
  row: Message,
  { from, to, base }: Conversion,
): Message {
  const converted = convert(converter, row, { from, to, base });
  if (to === 2) return converted;
  return asFirstApi(converted);
}

/** Fields of a V1 message in the order in which the first API has always answered them. */
const V1_FIELDS = [
  "id",
  "chat_id",
  "role",
  "content",
  "metadata",
  "created_at",
  "updated_at",
  "sequence_number",
] as const;

/**
 * Writes a V1 message as the first API did, whichever table it comes from: the same bytes, for
 * clients that compare or hash answers. They never saw who owns a row.
 */
function asFirstApi(message: Message): Message {
  const wire: Record<string, unknown> = {};
  for (const name of V1_FIELDS) {
    if (message[name] !== undefined) {
      wire[name] = name === "metadata" ? asStored(message[name]) : message[name];
    }
  }
  for (const name of Object.keys(message)) {
    if (!(name in wire) && name !== "user_id") wire[name] = message[name];
  }
  return wire;
}

/** Orders keys as jsonb does, shorter first, because V1's own rows come out of a jsonb column. */
function asStored(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asStored);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  // Made by the database, or small: nothing to sort.
  if (entries.length > 1) entries.sort(([a], [b]) => compareKeys(a, b));
  return Object.fromEntries(entries.map(([key, item]) => [key, asStored(item)]));
}

const encoder = new TextEncoder();

function compareKeys(a: string, b: string): number {
  const left = encoder.encode(a);
  const right = encoder.encode(b);
  if (left.length !== right.length) return left.length - right.length;
  const place = left.findIndex((byte, i) => byte !== right[i]);
  return place === -1 ? 0 : (left[place] ?? 0) - (right[place] ?? 0);
}
