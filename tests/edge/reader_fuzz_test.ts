/** The reader on answers that are cut anywhere, or wrong anywhere. */

import assert from "node:assert/strict";
import { argumentsOf } from "../../supabase/functions/chat/adapters/changes/items.ts";
import { canonical } from "../../supabase/functions/chat/adapters/changes/json.ts";
import { isToRun, type ModelAnswer } from "../../supabase/functions/chat/formats/answer.ts";
import { cleaned } from "../../supabase/functions/chat/adapters/changes/storable.ts";
import { readBody } from "../../supabase/functions/chat/formats/read_answer.ts";
import { type Sample, SAMPLES, sent } from "./answer_samples.ts";

type Row = Record<string, unknown>;

interface Read {
  readonly answer: ModelAnswer;
  readonly told: string;
}

async function read(bytes: Uint8Array | string, isStream: boolean): Promise<Read> {
  const body = new Response(typeof bytes === "string" ? bytes : bytes.slice()).body;
  const pieces: string[] = [];
  const onText = (piece: string) => void pieces.push(piece);
  const answer = await readBody(body ?? new ReadableStream(), { isStream, onText });
  return { answer, told: pieces.join("") };
}

/** Name and arguments of the calls that would be run. */
function runs({ outcome, content }: ModelAnswer): string[] {
  if (outcome !== "called") return [];
  return content.filter((block) => isToRun(block) && block.state !== "error")
    .map((block) => `${block.name} ${canonical(block.input ?? argumentsOf(block))}`);
}

/** Whether an answer is one that can be stored and shown. */
function checkSound(what: string, { answer, told }: Read): void {
  const { content } = answer;
  assert.equal(cleaned(content), content, `${what}: cannot be stored`);
  assert.ok(told.isWellFormed() && !told.includes("\0"), what);
  const ids = content.filter(isToRun).map(({ tool_call_id }) => tool_call_id);
  assert.equal(new Set(ids).size, ids.length, `${what}: ids ${ids}`);
  assert.ok(!ids.includes("") && ids.every((id) => typeof id === "string"), `${what}: ids ${ids}`);
  for (const block of content) assert.equal(typeof block.type, "string", what);
  if (answer.outcome === "failed") assert.ok(answer.failure, what);
}

const words = (value: unknown): string[] => JSON.stringify(value)?.match(/w-[a-z]+/g) ?? [];

for (const sample of SAMPLES) {
  const title = `${sample.name} ${sample.isStream ? "stream" : "whole"}`;

  Deno.test(`${title}: is read whole`, async () => {
    const { answer } = await read(sent(sample), sample.isStream);
    assert.notEqual(answer.outcome, "failed");
    // The pieces of a word in two events are joined by now.
    const wanted = words(sample.bodies).filter((word) => !["w-os"].includes(word));
    for (const word of wanted) assert.ok(words(answer.content).includes(word), word);
  });

  Deno.test(`${title}: with any field wrong, it invents nothing and loses nothing`, async () => {
    const whole = await read(sent(sample), sample.isStream);
    const known = new Set(runs(whole.answer));
    const all = words(whole.answer.content);
    let tried = 0;
    for (const mutant of mutants(sample)) {
      tried++;
      const got = await read(sent({ ...sample, bodies: mutant.bodies }), sample.isStream);
      const what = `${title}: ${mutant.what}`;
      checkSound(what, got);
      checkCalls(what, got.answer, { mutant, known });
      // What could still be read in the answer is in what was read of it.
      const [there, found] = [JSON.stringify(mutant.bodies), JSON.stringify(got.answer.content)];
      for (const word of mutant.isOther ? [] : all) {
        assert.ok(
          found.includes(word) || !there.includes(word),
          `${what}: ${word} is lost in ${found}`,
        );
      }
    }
    assert.ok(tried > 100, `${tried}`);
  });

  // Up to its last event it is the same as the one before.
  if (sample.name === "responses without last items") continue;
  Deno.test(`${title}: cut at every byte, it invents nothing and loses nothing`, async () => {
    const bytes = new TextEncoder().encode(sent(sample));
    const whole = await read(bytes, sample.isStream);
    const calls = runs(whole.answer);
    let before = "";
    for (let length = 0; length < bytes.length; length++) {
      const part = await read(bytes.slice(0, length), sample.isStream);
      const what = `${title}, ${length} bytes`;
      checkSound(what, part);
      assert.ok(whole.told.startsWith(part.told), `${what}: ${part.told}`);
      // What has been told stays told, however little more arrives.
      assert.ok(part.told.startsWith(before), what);
      before = part.told;
      const kept = part.answer.content.filter(({ type }) => type === "text" || type === "refusal");
      assert.equal(kept.map(({ text }) => text).join("\n\n"), part.told, what);
      if (part.answer.outcome === "failed") assert.deepEqual(runs(part.answer), [], what);
      else assert.deepEqual(runs(part.answer), calls, what);
    }
  });
}

interface Mutant {
  readonly what: string;
  readonly bodies: readonly Row[];
  /** Whether a part is of another answer now, of several: only the first is read. */
  readonly isOther: boolean;
}

/** No call is run that the answer does not tell of: its name, and its arguments as a whole. */
function checkCalls(
  what: string,
  answer: ModelAnswer,
  { mutant, known }: { readonly mutant: Mutant; readonly known: ReadonlySet<string> },
): void {
  const names = new Set<unknown>();
  // Nothing at all is how some servers say that a tool takes nothing.
  const inputs = new Set(["{}", '""', ...[...known].map((call) => call.replace(/^\S+ /, ""))]);
  for (const [path, value] of paths(mutant.bodies)) {
    if (path.at(-1) === "name") names.add(value);
    if (!["arguments", "input"].includes(String(path.at(-1)))) continue;
    inputs.add(canonical(value));
    if (typeof value === "string") inputs.add(textOfInput(value));
  }
  for (const call of runs(answer)) {
    const [name = "", ...input] = call.split(" ");
    assert.ok(names.has(name) && inputs.has(input.join(" ")), `${what}: ${call} is nobody's`);
  }
  assert.ok(runs(answer).length <= known.size, `${what}: ${runs(answer)}`);
}

function textOfInput(text: string): string {
  try {
    return canonical(JSON.parse(text));
  } catch {
    return text;
  }
}

const OTHERS: readonly unknown[] = [null, true, 7, "odd", [], ["odd"], {}, { odd: 1 }];

/** Makes every answer with one field missing, null, of another type, or doubled. */
function* mutants({ bodies, isStream }: Sample): Generator<Mutant> {
  for (const [path, value] of paths(bodies)) {
    // A whole answer that is another thing altogether is no answer.
    if (!isStream && path.length === 1) continue;
    const what = path.join(".");
    const isOther = /choices\.\d\.index$/.test(what);
    yield { what: `${what} missing`, isOther: false, bodies: changed(bodies, path) };
    for (const other of OTHERS) {
      if (JSON.stringify(other) === JSON.stringify(value)) continue;
      const wrong = changed(bodies, path, [other]);
      yield { what: `${what} = ${JSON.stringify(other)}`, isOther, bodies: wrong };
    }
    const isInList = typeof path.at(-1) === "number";
    const twice = isInList ? [value, value] : typeof value === "string" ? [value + value] : [];
    if (twice.length === 0) continue;
    yield { what: `${what} doubled`, isOther: false, bodies: changed(bodies, path, twice) };
  }
}

type Path = readonly (string | number)[];

function* paths(value: unknown, path: Path = []): Generator<[Path, unknown]> {
  if (path.length > 0) yield [path, value];
  if (typeof value !== "object" || value === null) return;
  for (const [key, item] of Object.entries(value)) {
    yield* paths(item, [...path, Array.isArray(value) ? Number(key) : key]);
  }
}

/** Returns a copy with other values at a place; with none when it shall be missing. */
function changed(
  bodies: readonly Row[],
  path: Path,
  values: readonly unknown[] = [],
): readonly Row[] {
  const copy = structuredClone(bodies) as unknown as Row;
  let parent: Row = copy;
  for (const key of path.slice(0, -1)) parent = parent[key] as Row;
  const last = path.at(-1) ?? 0;
  if (Array.isArray(parent)) parent.splice(Number(last), 1, ...values);
  else if (values.length === 0) delete parent[last];
  else parent[last] = values[0];
  return copy as unknown as readonly Row[];
}
