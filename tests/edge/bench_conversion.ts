/**
 * Converts messages (V1, a JSON list on standard input) and, in turn, only parses and writes them.
 *
 *     bench_conversion.ts rounds
 *
 * One JSON line a round, microseconds for one message on each side; the last line tells how long
 * single messages take. Both sides see the same messages in both
 * formats; results are used, so that nothing can be left out.
 *
 * @module
 */

import { toV1, toV2 } from "../../supabase/functions/chat/adapters/message_adapter.ts";

type Row = Record<string, unknown>;

const PAGE = 500;
const [rounds = 9] = Deno.args.map(Number);
const v1: readonly Row[] = JSON.parse(await new Response(Deno.stdin.readable).text());
const v2 = v1.map((message) => toV2(message));
const text1 = v1.map((message) => JSON.stringify(message));
const text2 = v2.map((message) => JSON.stringify(message));

let used = 0;
/** Each side works on the messages from one place to another. */
const SIDES: Readonly<Record<string, (from: number, to: number) => void>> = {
  up(from, to) {
    for (const message of v1.slice(from, to)) used += Object.keys(toV2(message)).length;
  },
  down(from, to) {
    for (const message of v2.slice(from, to)) used += Object.keys(toV1(message)).length;
  },
  json_of_v1(from, to) {
    for (const text of text1.slice(from, to)) used += JSON.stringify(JSON.parse(text)).length;
  },
  json_of_v2(from, to) {
    for (const text of text2.slice(from, to)) used += JSON.stringify(JSON.parse(text)).length;
  },
};

/** Returns microseconds for one message on each side. */
function measure(round: number): Record<string, number> {
  const found = Object.fromEntries(Object.keys(SIDES).map((name) => [name, 0]));
  for (let from = 0, turn = round; from < v1.length; from += PAGE, turn++) {
    // Page by page and in turns: a slow moment of the machine hits all sides.
    const sides = turn % 2 === 0 ? Object.entries(SIDES) : Object.entries(SIDES).toReversed();
    for (const [name, work] of sides) {
      const start = performance.now();
      work(from, from + PAGE);
      found[name] = (found[name] ?? 0) + (performance.now() - start) * 1000 / v1.length;
    }
  }
  return found;
}

for (let round = 0; round <= rounds; round++) {
  const found = measure(round);
  // The first one warms up.
  if (round > 0) console.log(JSON.stringify(found));
}

/** Returns how many microseconds 95 of 100 messages take less than, each measured alone. */
function p95(messages: readonly Row[], convert: (message: Row) => Row): number {
  const times = messages.map((message) => {
    const start = performance.now();
    used += Object.keys(convert(message)).length;
    return (performance.now() - start) * 1000;
  }).toSorted((first, second) => first - second);
  return times[Math.floor(times.length * 0.95)] ?? 0;
}

console.log(JSON.stringify({
  "toV2 of one message, p95 in microseconds": p95(v1, (message) => toV2(message)),
  "toV1 of one message, p95 in microseconds": p95(v2, (message) => toV1(message)),
}));
if (used === 0) throw new Error("Nothing was converted");
