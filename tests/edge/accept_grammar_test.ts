/**
 * Accept and X-API-Version against a reference written from RFC 9110, on headers that its grammar
 * generates: 5.6.1 lists, 5.6.4 quoted strings, 5.6.6 parameters, 12.4.2 weights, 12.5.1 ranges.
 *
 * @module
 */

import assert from "node:assert/strict";
import { negotiate } from "../../supabase/functions/_shared/crossfade/negotiation/negotiation.ts";

const SEED = Number(Deno.env.get("CROSSFADE_SEED") ?? 1);
const CASES = 20_000;

/** A generator of numbers from 0 to 1 that can be repeated (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const next = numbers(SEED);
const one = <T>(...some: T[]): T => some[Math.floor(next() * some.length)] as T;
const several = (most: number, make: () => string): string[] =>
  Array.from({ length: Math.floor(next() * (most + 1)) }, make);
const space = (): string => one("", "", " ", "\t", "  ");

/** What a generated range means, known because it was made and not because it was read. */
interface Range {
  readonly text: string;
  readonly type: string;
  readonly requested: string | undefined;
  readonly quality: number;
}

function quoted(text: string): string {
  return `"${
    [...text].map((c) => c === '"' || c === "\\" || next() < 0.1 ? `\\${c}` : c).join("")
  }"`;
}

/** Parameters that say nothing of the version, some with all that a careless reader splits at. */
const noise = (): string =>
  one(
    `profile=${quoted("a,b")}`,
    `title=${quoted(", application/json;version=2, ")}`,
    `x=${quoted(";version=2;q=0")}`,
    `x=${quoted('say "hi", \\')}`,
    "charset=utf-8",
    "",
  );

function range(): Range {
  const vendor = next() < 0.2;
  const vendored = one("1", "2", "3", "");
  const type = vendor
    ? `application/vnd.crossfade${vendored === "" ? "" : `.v${vendored}`}+json`
    : one(
      "application/json",
      "application/json",
      "*/*",
      "application/*",
      "text/event-stream",
      "text/html",
    );
  const said = one(undefined, "1", "2", "2", "v2", "3", "latest");
  const weight = one(undefined, undefined, "0", "0.000", "0.5", "0.9", "1", "1.000", "2", "0.1234");
  const shown = (name: string, value: string): string =>
    `${one(name, name.toUpperCase())}=${next() < 0.2 ? quoted(value) : value}`;
  const parameters = [
    ...several(2, noise),
    ...(said === undefined ? [] : [shown(one("version", "v"), said)]),
    ...several(1, noise),
    ...(weight === undefined ? [] : [shown("q", weight)]),
  ];
  const text = [one(type, type.toUpperCase()), ...parameters].join(`${space()};${space()}`);
  const legal = weight !== undefined && /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(weight);
  return {
    text,
    type,
    requested: vendor && vendored !== "" ? vendored : said,
    quality: legal ? Number(weight) : 1,
  };
}

/** The rules in words: what a list of ranges means for the version. */
function reference(ranges: readonly Range[]): string {
  const mine = ranges.filter(({ type }) => type !== "text/html");
  const versionOf = ({ requested }: Range): number | undefined =>
    requested === undefined || requested === "latest"
      ? undefined
      : Number(requested.replace("v", ""));
  const isGood = (r: Range): boolean =>
    r.requested === undefined || [1, 2].includes(versionOf(r) ?? 0);
  const taken = mine.filter(({ quality }) => quality > 0);
  const refusedVersions = mine.filter(({ quality }) => quality === 0).map(versionOf);
  const telling = taken.filter(isGood)
    .filter((r) => !(r.type === "text/event-stream" && r.requested === undefined));
  const bestQuality = Math.max(...telling.map(({ quality }) => quality));
  const best = telling.filter(({ quality }) => quality === bestQuality).map(versionOf);
  if (best.includes(2)) return "2 accept";
  if (best.includes(1)) return "1 accept";
  if (taken.length > 0 && !taken.some(isGood)) return "406 accept";
  if (!refusedVersions.includes(1)) return "1 default";
  return refusedVersions.includes(2) ? "406 accept" : "2 accept";
}

function told(headers: [string, string][]): string {
  const result = negotiate({ headers: new Headers(headers), path: "/chat/messages" }, {
    functionName: "chat",
  });
  return result.kind === "negotiated"
    ? `${result.version} ${result.source}`
    : `${result.problem.status} ${result.source}`;
}

Deno.test(`${CASES} generated Accept headers mean what the RFC says (seed ${SEED})`, () => {
  const seen = new Map<string, number>();
  for (let n = 0; n < CASES; n++) {
    const ranges = Array.from({ length: 1 + Math.floor(next() * 4) }, range);
    const header = ranges.map(({ text }) => text)
      .flatMap((text) => [text, ...several(1, () => "")])
      .join(`${space()},${space()}`);
    const wanted = reference(ranges);
    assert.equal(told([["accept", header]]), wanted, header);
    seen.set(wanted, (seen.get(wanted) ?? 0) + 1);
  }
  const kinds = ["1 accept", "2 accept", "1 default", "406 accept"];
  assert.ok(kinds.every((kind) => (seen.get(kind) ?? 0) > CASES / 200), JSON.stringify([...seen]));
});

Deno.test("generated X-API-Version lists mean what the RFC says", () => {
  for (let n = 0; n < CASES / 4; n++) {
    const values = Array.from(
      { length: 1 + Math.floor(next() * 3) },
      () => one("1", "2", "v2", "3", "x"),
    );
    const shown = values.map((value) => next() < 0.2 ? quoted(value) : value);
    const header = shown.flatMap((text) => [text, ...several(1, () => "")])
      .join(`${space()},${space()}`);
    const numbersOf = values.map((value) => value === "x" ? NaN : Number(value.replace("v", "")));
    const [first = NaN] = numbersOf;
    const isOne = numbersOf.every((value) => value === first);
    const wanted = isOne && (first === 1 || first === 2) ? `${first} header` : "400 header";
    assert.equal(told([["x-api-version", header]]), wanted, header);
  }
});

Deno.test("no header at all makes negotiation throw, however it is cut", () => {
  for (let n = 0; n < CASES / 4; n++) {
    const { text } = range();
    for (const cut of [text.slice(0, next() * text.length), text.slice(next() * text.length)]) {
      const safe = cut.replaceAll(/[^\t\x20-\x7e]/g, "");
      assert.match(told([["accept", safe], ["x-api-version", one("1", safe || "1")]]), /^\d+ \w+$/);
    }
  }
});
