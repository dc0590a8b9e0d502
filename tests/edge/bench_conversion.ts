/**
 * Converts messages (V1, a JSON list on standard input) and, in turn, only parses and writes them.
 *
 *     bench_conversion.ts rounds ms_per_side
 *
 * One JSON line a round, messages per second of each side. Both sides see the same messages in both
 * formats; results are used, so that nothing can be left out.
 *
 * @module
 */

import { toV1, toV2 } from "../../supabase/functions/chat/adapters/message_adapter.ts";

type Row = Record<string, unknown>;

const [rounds = 9, ms = 200] = Deno.args.map(Number);
const v1: readonly Row[] = JSON.parse(await new Response(Deno.stdin.readable).text());
const v2 = v1.map((message) => toV2(message));
const text1 = v1.map((message) => JSON.stringify(message));
const text2 = v2.map((message) => JSON.stringify(message));

let used = 0;
const SIDES: Readonly<Record<string, () => void>> = {
  up() {
    for (const message of v1) used += Object.keys(toV2(message)).length;
  },
  down() {
    for (const message of v2) used += Object.keys(toV1(message)).length;
  },
  json_of_v1() {
    for (const text of text1) used += JSON.stringify(JSON.parse(text)).length;
  },
  json_of_v2() {
    for (const text of text2) used += JSON.stringify(JSON.parse(text)).length;
  },
};

/** Returns microseconds for one message. */
function measure(work: () => void): number {
  const start = performance.now();
  let passes = 0;
  do {
    work();
    passes += 1;
  } while (performance.now() - start < ms);
  return (performance.now() - start) * 1000 / (passes * v1.length);
}

for (let round = 0; round <= rounds; round++) {
  const names = Object.keys(SIDES);
  // Every other round the other way round; the first one warms up.
  const found = Object.fromEntries(
    (round % 2 === 0 ? names : names.toReversed())
      .map((name) => [name, measure(SIDES[name] ?? (() => {}))]),
  );
  if (round > 0) console.log(JSON.stringify(found));
}
if (used === 0) throw new Error("Nothing was converted");
