/**
 * Stored messages as a model reads them.
 *
 * @module
 */

import { isObject } from "../adapters/changes/json.ts";
import { type Turn, wordsOf } from "../model/model.ts";
import type { Message } from "../types.ts";

/** Reads a turn from a V2 message. */
export function readTurn({ id, role, content }: Message): Turn {
  const blocks = Array.isArray(content) ? content.filter(isObject) : [];
  return { role: String(role), content: blocks, id: String(id) };
}

/** Most characters of a conversation that a model gets; compression has its own, smaller budget. */
const LONGEST_CONTEXT = 1_000_000;

/** Returns the newest turns that fit together; the last one always does. */
export function newestFitting(turns: readonly Turn[]): readonly Turn[] {
  const lengths = turns.map((turn) => wordsOf(turn).length);
  let room = LONGEST_CONTEXT - (lengths.at(-1) ?? 0);
  let first = turns.length - 1;
  while (first > 0 && (lengths[first - 1] ?? 0) <= room) room -= lengths[--first] ?? 0;
  return turns.slice(Math.max(first, 0));
}
