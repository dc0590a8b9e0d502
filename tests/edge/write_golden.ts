/**
 * Writes the golden files of a new release, from the input of the last one; part of cutting one:
 *
 *     deno run --allow-read=tests --allow-write=tests/golden \
 *       --config supabase/functions/chat/deno.json tests/edge/write_golden.ts 0.2.0
 *
 * Read what changed before committing: git diff --no-index tests/golden/0.1.0 tests/golden/0.2.0
 *
 * @module
 */

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { filesOf, GOLDEN, goldenText, readGolden, releases, renderGolden } from "./golden.ts";

const [release = ""] = Deno.args;
const folder = new URL(`${release}/`, GOLDEN);
const last = releases().at(-1);
if (!/^\d+\.\d+\.\d+$/.test(release)) throw new Error(`"${release}" is not a release like 0.2.0`);
if (existsSync(folder)) throw new Error(`Release ${release} is written down already`);
if (last === undefined) throw new Error("There is no release to take the input from");
mkdirSync(folder);
for (const file of filesOf(last).filter((name) => !name.endsWith(".changed.json"))) {
  const rendered = renderGolden(file.replace(".json", ""), readGolden(last, file));
  writeFileSync(new URL(file, folder), goldenText(rendered));
}
