/**
 * Negotiates the wire version, chooses the backend and converts between the two.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { BackendChoice } from "../../_shared/crossfade/choose_backend.ts";
import type { Context } from "../../_shared/crossfade/evaluate.ts";
import type { View } from "../../_shared/crossfade/flags_client.ts";
import {
  negotiate,
  type Negotiated,
  type NegotiationOptions,
  type Refused,
} from "../../_shared/crossfade/negotiation.ts";
import type { Message } from "../types.ts";

/** The two directions of the message adapter; the second argument is the stored counterpart. */
export interface Converter {
  toV2(message: Message, base?: Message): Message;
  toV1(message: Message, base?: Message): Message;
}

/** From which format into which, and what is stored in the target format already. */
export interface Conversion {
  readonly from: Version;
  readonly to: Version;
  readonly base?: Message | undefined;
}

/** Decides which format the client speaks. */
export function detectVersion(
  request: { readonly headers: Headers; readonly path: string },
  options: Omit<NegotiationOptions, "functionName">,
): Negotiated | Refused {
  return negotiate(request, { ...options, functionName: "chat" });
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
  // Clients of the first API never saw who owns a row.
  const { user_id: _, ...wire } = converted;
  return wire;
}

function convert(converter: Converter, message: Message, { from, to, base }: Conversion): Message {
  if (from === to) return message;
  return to === 2 ? converter.toV2(message, base) : converter.toV1(message, base);
}
