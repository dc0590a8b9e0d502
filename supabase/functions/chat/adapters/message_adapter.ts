/**
 * Converts messages between the formats of the API, one version change after the other.
 *
 * Everything here is pure: nothing is changed in place, and results share no parts with arguments.
 * Timestamps stay the strings they are, because a Date has no microseconds. Numbers that JavaScript
 * cannot hold are the caller's business; tool arguments travel as text for that reason.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { Message } from "../types.ts";
import { copy, isObject, own, without } from "./changes/json.ts";
import { compareMessages, isNewer } from "./changes/order.ts";
import { type Conversion, convertThrough } from "./changes/path.ts";
import { CHANGES } from "./changes/registry.ts";

const V1_ROLES: readonly unknown[] = ["user", "assistant", "system"];
const V2_ROLES: readonly unknown[] = [...V1_ROLES, "developer", "tool"];
const RESIDUE = "_crossfade";

/** A message as the first API knows it. */
export interface V1Message extends Message {
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
  readonly metadata?: Message;
}

/** A message of typed blocks. */
export interface V2Message extends Message {
  readonly role: V1Message["role"] | "developer" | "tool";
  readonly content: readonly unknown[];
  readonly metadata?: Message;
}

/** Input that is in no known format, or that the database could not store. */
export class MessageError extends Error {
  /** Where in the value, from the outside in. */
  readonly path: readonly (string | number)[];

  constructor(message: string, path: readonly (string | number)[] = []) {
    super(message);
    this.name = "MessageError";
    this.path = path;
  }
}

/**
 * Returns the V2 form of a V1 message.
 *
 * With `base`, the message as V2 stores it, parts that V1 still shows unchanged keep what V2 has,
 * and an edit changes only what it touched. Fields that the message does not have are not touched.
 */
export function toV2(message: Message, base?: Message): Message {
  return convert(message, { from: 1, to: 2, base });
}

/** Returns the V1 form of a V2 message. V1 has nothing that V2 lacks, so `base` is not needed. */
export function toV1(message: Message, base?: Message): Message {
  return convert(message, { from: 2, to: 1, base });
}

function convert(message: Message, conversion: Conversion): Message {
  return convertThrough(CHANGES, message, conversion);
}

/** Whether a value is a V1 message; a declared other version is believed. */
export function isV1Message(value: unknown): value is V1Message {
  return isObject(value) && typeof value.content === "string" && V1_ROLES.includes(value.role) &&
    hasObjectOrNothing(value, "metadata") && declares(value, 1);
}

/** Whether a value is a V2 message; a declared other version is believed. */
export function isV2Message(value: unknown): value is V2Message {
  return isObject(value) && Array.isArray(value.content) && V2_ROLES.includes(value.role) &&
    hasObjectOrNothing(value, "metadata") && declares(value, 2);
}

function hasObjectOrNothing(value: Message, key: string): boolean {
  return value[key] === undefined || isObject(value[key]);
}

function declares(value: Message, version: Version): boolean {
  return value.schema_version === undefined || value.schema_version === version;
}

/** Returns the version a message is in; `undefined` when it is in none, or contradicts itself. */
export function detectVersion(value: unknown): Version | undefined {
  if (isV1Message(value)) return 1;
  return isV2Message(value) ? 2 : undefined;
}

/**
 * Converts messages of both formats to one, in order.
 *
 * @throws {MessageError} naming the first one that is in neither format: none is passed on as it is
 */
export function convertMessages(messages: readonly unknown[], to: Version): Message[] {
  return messages.map((value, index) => {
    const message = readMessage(value, index);
    const from = isV1Message(message) ? 1 : 2;
    // Through the other format and back would lose what V1 cannot hold: only copy.
    return from === to ? copy(message) : convert(message, { from, to, base: undefined });
  });
}

function readMessage(value: unknown, index: number): Message {
  if (isV1Message(value) || isV2Message(value)) return value;
  throw new MessageError(`Message ${index} is neither a V1 nor a V2 message`, [index]);
}

/**
 * Merges two histories of a chat, each in either format, into one without duplicates.
 *
 * Of two forms of a message (same id) the later changed one wins, the second at a draw; a V1 form
 * that wins is put into the V2 form, so nothing that only V2 holds is lost. The order is that of the
 * tables: time, then sequence; what is equal in both keeps the order it came in.
 *
 * @throws {MessageError} naming the first message that is in neither format
 */
export function mergeMessageHistories(
  first: readonly unknown[],
  second: readonly unknown[],
  { to = 2 }: { readonly to?: Version } = {},
): Message[] {
  const merged = new Map<unknown, Message>();
  for (const [index, value] of [...first, ...second].entries()) {
    const message = readMessage(value, index);
    const id = message.id ?? index;
    const other = merged.get(id);
    merged.set(id, other === undefined ? message : newest(other, message));
  }
  return convertMessages([...merged.values()].sort(compareMessages), to);
}

function newest(first: Message, second: Message): Message {
  const [winner, loser] = isNewer(first, second) ? [first, second] : [second, first];
  if (detectVersion(winner) !== 1 || detectVersion(loser) !== 2) return winner;
  // Changed at the same moment: written by the mirror, and V2 holds more.
  return isNewer(winner, loser) ? toV2(winner, loser) : loser;
}

/**
 * Returns a client's message without the reserved key `metadata._crossfade`. Nothing in it is ever
 * believed: a client could claim a role or an id with it.
 */
export function withoutResidue(message: Message): Message {
  const metadata = own(message, "metadata");
  if (!isObject(metadata) || !Object.hasOwn(metadata, RESIDUE)) return message;
  return { ...message, metadata: without(metadata, [RESIDUE]) };
}
