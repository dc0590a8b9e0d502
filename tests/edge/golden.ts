/**
 * Output of releases, written down: tests/golden/<release>/<topic>.json.
 *
 * A later release must still answer the same to the same input. Where one must not, a file
 * `<topic>.changed.json` beside says what it answers now, by the case's name, and why.
 *
 * @module
 */

import { readdirSync, readFileSync } from "node:fs";
import { toV1, toV2 } from "../../supabase/functions/chat/adapters/message_adapter.ts";
import { exportConversation } from "../../supabase/functions/chat/formats/export.ts";
import { show, type ToolFormat } from "../../supabase/functions/chat/formats/format.ts";
import { namesOf } from "../../supabase/functions/chat/formats/formats.ts";
import { TOOL_FORMATS } from "./tool_formats.ts";

type Row = Record<string, unknown>;

export interface GoldenCase {
  readonly name: string;
  readonly given: Row;
  readonly expect: unknown;
}

export interface GoldenFile {
  readonly about: string;
  readonly cases: readonly GoldenCase[];
}

export const GOLDEN = new URL("../golden/", import.meta.url);

/** How each topic is answered today. */
export const TOPICS: Readonly<Record<string, (given: Row) => unknown>> = {
  messages: ({ to, message, base }) =>
    (to === 1 ? toV1 : toV2)(message as Row, base as Row | undefined),
  tools: ({ format, kind, stored }) =>
    show(formatOf(format), kind as "tool", stored as Row, namesOf([stored as Row])),
  conversations: ({ format, messages: stored, tools }) => {
    const names = namesOf(tools as Row[]);
    const { messages, system } = exportConversation(formatOf(format), stored as Row[], { names });
    return system.length === 0 ? messages : { system, messages };
  },
};

function formatOf(id: unknown): ToolFormat {
  const format = TOOL_FORMATS.find((item) => item.id === id);
  if (format === undefined) throw new RangeError(`There is no format "${id}"`);
  return format;
}

/** Returns the releases that are written down, oldest first. */
export function releases(): string[] {
  const numbers = (release: string) => release.split(".").map(Number);
  return readdirSync(GOLDEN).filter((name) => /^\d/.test(name)).toSorted((first, second) => {
    const [left, right] = [numbers(first), numbers(second)];
    const place = left.findIndex((number, index) => number !== right[index]);
    return place < 0 ? 0 : (left[place] ?? 0) - (right[place] ?? 0);
  });
}

export function filesOf(release: string): string[] {
  return readdirSync(new URL(`${release}/`, GOLDEN)).toSorted();
}

export function readGolden(release: string, file: string): GoldenFile {
  return JSON.parse(readFileSync(new URL(`${release}/${file}`, GOLDEN), "utf8"));
}

/** Returns a file as it is written: for people, one case after the other. */
export function goldenText({ about, cases }: GoldenFile): string {
  return `${JSON.stringify({ about, cases }, null, 2)}\n`;
}

/** Returns the file that a topic has today, for the same input. */
export function renderGolden(topic: string, { about, cases }: GoldenFile): GoldenFile {
  const answer = TOPICS[topic];
  if (answer === undefined) throw new RangeError(`There is no topic "${topic}"`);
  return {
    about,
    cases: cases.map(({ name, given }) => ({ name, given, expect: answer(given) })),
  };
}
