import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { VECTORS } from "./vectors.ts";

/** Topics that no test of the edge runs, with the reason. */
const NOT_OURS: Readonly<Record<string, string>> = {
  flag_changes: "what may be set: the database alone decides",
  openfeature: "tests/peers/openfeature_test.ts, which needs the SDK",
  health_rules: "rules of the monitor: SQL and Python",
};

Deno.test("every vector file is run here or named as not ours", () => {
  const folder = new URL(".", import.meta.url);
  const tests = readdirSync(folder).filter((name) => name.endsWith("_test.ts"))
    .map((name) => readFileSync(new URL(name, folder), "utf8")).join("\n");
  const topics = readdirSync(VECTORS).filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length));
  const unknown = topics.filter((topic) =>
    !(topic in NOT_OURS) && !tests.includes(`"${topic}"`) && !tests.includes(`${topic}.json`)
  );
  assert.deepEqual(unknown, []);
});
