/**
 * The order of messages, from timestamps that stay strings: a Date has no microseconds.
 *
 * @module
 */

import type { Message } from "../../types.ts";

/** A point in time; compare seconds first. Missing and unreadable ones are after all others. */
interface Moment {
  readonly seconds: number;
  readonly fraction: string;
}

const NEVER: Moment = { seconds: Infinity, fraction: "" };
const TIMESTAMP = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d(?::?\d\d)?)$/i;

/** Reads RFC 3339, and what PostgreSQL prints. */
function readMoment(value: unknown): Moment {
  const [, day, time, fraction = "", zone = ""] = TIMESTAMP.exec(String(value)) ?? [];
  if (day === undefined) return NEVER;
  const digits = zone.replace(":", "");
  const offset = digits.length < 3 ? "Z" : `${digits.slice(0, 3)}:${digits.slice(3) || "00"}`;
  const seconds = Date.parse(`${day}T${time}${offset}`) / 1000;
  return Number.isNaN(seconds) ? NEVER : { seconds, fraction: fraction.padEnd(9, "0") };
}

/** Compares two timestamps: negative when the first is earlier. */
export function compareMoments(first: unknown, second: unknown): number {
  const [left, right] = [readMoment(first), readMoment(second)];
  if (left.seconds !== right.seconds) return left.seconds < right.seconds ? -1 : 1;
  if (left.fraction === right.fraction) return 0;
  return left.fraction < right.fraction ? -1 : 1;
}

/**
 * Compares two messages by the order in their chat: time, then sequence, none before any. Equal
 * ones keep the order they come in.
 */
export function compareMessages(first: Message, second: Message): number {
  const byTime = compareMoments(first.created_at, second.created_at);
  if (byTime !== 0) return byTime;
  const [left, right] = [sequence(first), sequence(second)];
  return left === right ? 0 : left < right ? -1 : 1;
}

function sequence(message: Message): number {
  const value = message.seq ?? message.sequence_number;
  return typeof value === "number" ? value : -Infinity;
}

/** Whether the first of two forms of a message was changed later than the second. */
export function isNewer(first: Message, second: Message): boolean {
  return compareMoments(changedAt(first), changedAt(second)) > 0;
}

function changedAt(message: Message): unknown {
  return message.updated_at ?? message.created_at;
}
