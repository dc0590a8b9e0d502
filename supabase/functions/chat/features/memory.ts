/**
 * Facts that a user asks to remember, used in all of the user's chats.
 *
 * @module
 */

import { saying, type Turn } from "../model/model.ts";

/** Facts that the model is told, newest first. */
export const MOST_FACTS = 50;

const LONGEST_FACT = 500;

/**
 * Returns what a message asks to remember.
 *
 * Only a message that begins with it: what a user merely mentions is not kept.
 */
export function factIn(text: string): string | undefined {
  const asked = /^\s*(?:please\s+)?remember[\s:]\s*([^]+)$/i.exec(text)?.[1];
  const fact = asked?.replace(/^that(\s+|$)/i, "").trim();
  return fact === undefined || fact === "" || [...fact].length > LONGEST_FACT ? undefined : fact;
}

/** Returns what the model is told of the facts, oldest first. */
export function tellFacts(facts: readonly string[]): Turn[] {
  if (facts.length === 0) return [];
  return [saying("system", `The user asked to remember: ${facts.toReversed().join("; ")}`)];
}
