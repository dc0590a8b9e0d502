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
  if (from > to) {
    return changes.filter(({ version }) => version > to && version <= from)
      .reduceRight((newer, change) => change.down(newer), message);
  }
  return changes.filter(({ version }) => version > from && version <= to)
    .reduce((older, change) => {
      const stored = base &&
        convertThrough(changes, base, { from: to, to: change.version, base: undefined });
      return change.up(older, stored);
    }, message);
}
