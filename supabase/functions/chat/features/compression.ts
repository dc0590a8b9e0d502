/**
 * Fits a long conversation into a budget of tokens: the newest turns as they are, the older ones as
 * a summary of their first sentences.
 *
 * @module
 */

import type { Summary } from "../store/feature_store.ts";
import { saying, type Turn, wordsOf } from "../model/model.ts";

const LONGEST_LINE = 120;
const CHARACTERS_PER_TOKEN = 4;

/** What compression made of a conversation. */
export interface Compressed {
  readonly turns: readonly Turn[];
  /** To be kept for the next reply; absent when everything fits. */
  readonly summary?: Summary;
  /** Turns that only the summary tells of now. */
  readonly left: number;
}

/** Estimates the tokens of a text; no tokenizer is the same for every model. */
export function countTokens(text: string): number {
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN);
}

/**
 * Returns the conversation within the budget. The last turn stays whole, whatever its size.
 *
 * @param known the summary kept by an earlier reply, to which newly dropped turns are added
 */
export function compress(
  turns: readonly Turn[],
  budget: number,
  known: Summary | undefined,
): Compressed {
  const sizes = turns.map((turn) => countTokens(wordsOf(turn)));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total <= budget) return { turns, left: 0 };
  // Three quarters for the newest turns, one for the summary.
  let room = (budget * 3) / 4;
  let first = turns.length - 1;
  room -= sizes[first] ?? 0;
  while (first > 0 && (sizes[first - 1] ?? 0) <= room) room -= sizes[--first] ?? 0;
  // A result of a tool makes no sense without its call.
  while (first < turns.length - 1 && turns[first]?.role === "tool") first++;
  const older = turns.slice(0, first);
  const summary = summarise(older, budget / 4, known);
  const kept = turns.slice(first);
  if (summary === undefined) return { turns: kept, left: older.length };
  const told = saying("system", `Earlier in this conversation: ${summary.text}`);
  return { turns: [told, ...kept], summary, left: older.length };
}

function summarise(
  older: readonly Turn[],
  budget: number,
  known: Summary | undefined,
): Summary | undefined {
  const covered = known === undefined ? -1 : older.findIndex((turn) => turn.id === known.coveredTo);
  const lines = older.slice(covered + 1)
    .filter((turn) => turn.role !== "tool")
    .map((turn) => ({ role: turn.role, words: wordsOf(turn) }))
    .filter(({ words }) => words !== "")
    .map(({ role, words }) => `${role}: ${firstSentence(words)}`);
  const coveredTo = older.findLast((turn) => turn.id !== undefined)?.id;
  if (coveredTo === undefined) return undefined;
  // The message may have left the window: then the summary covers what came before all of it.
  const text = [...(known === undefined ? [] : [known.text]), ...lines].join(" / ");
  return { text: newest(text, Math.floor(budget * CHARACTERS_PER_TOKEN)), coveredTo };
}

function newest(text: string, length: number): string {
  return text.length <= length ? text : `...${text.slice(text.length - length + 3).toWellFormed()}`;
}

function firstSentence(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  const [sentence = line] = /^.*?[.!?](?=\s|$)/.exec(line) ?? [];
  const short = sentence.length > LONGEST_LINE
    ? `${sentence.slice(0, LONGEST_LINE - 3)}...`
    : sentence;
  return short.toWellFormed();
}
