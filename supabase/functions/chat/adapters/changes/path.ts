/**
 * The way from one version to another: every change between the two, in order.
 *
 * @module
 */

import type { Message } from "../../types.ts";
import type { Change } from "./change.ts";

/** From which version to which. */
export interface Conversion {
  readonly from: number;
  readonly to: number;
  /** The message as it is stored in the version `to`. */
  readonly base: Message | undefined;
}

/** Returns a message in another version. @param changes all of them, oldest first */
export function convertThrough(
  changes: readonly Change[],
  message: Message,
  { from, to, base }: Conversion,
): Message {
  let converted = message;
  if (from > to) {
    for (const { version, down } of changes.toReversed()) {
      if (version > to && version <= from) converted = down(converted);
    }
    return converted;
  }
  for (const { version, up } of changes) {
    if (version <= from || version > to) continue;
    const stored = base &&
      convertThrough(changes, base, { from: to, to: version, base: undefined });
    converted = up(converted, stored);
  }
  return converted;
}
