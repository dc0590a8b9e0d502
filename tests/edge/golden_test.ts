import assert from "node:assert/strict";
import {
  filesOf,
  type GoldenCase,
  goldenText,
  readGolden,
  releases,
  renderGolden,
  TOPICS,
} from "./golden.ts";

/** Returns the cases of a topic as they are answered now, and the names of those that changed. */
function expected(release: string, topic: string): GoldenCase[] {
  const { cases } = readGolden(release, `${topic}.json`);
  const file = `${topic}.changed.json`;
  if (!filesOf(release).includes(file)) return [...cases];
  const changed = new Map(readGolden(release, file).cases.map((item) => [item.name, item]));
  const merged = cases.map((item) => {
    const now = changed.get(item.name);
    changed.delete(item.name);
    return now === undefined ? item : { ...item, expect: now.expect };
  });
  assert.deepEqual([...changed.keys()], [], `cases of ${file} that ${topic}.json does not have`);
  return merged;
}

for (const release of releases()) {
  for (const file of filesOf(release).filter((name) => !name.endsWith(".changed.json"))) {
    const topic = file.replace(".json", "");
    Deno.test(`release ${release} still gets the same ${topic}, to the byte`, () => {
      const golden = { ...readGolden(release, file), cases: expected(release, topic) };
      assert.equal(goldenText(renderGolden(topic, golden)), goldenText(golden));
    });
  }
}

Deno.test("every topic is written down in the latest release, and no other", () => {
  const files = filesOf(releases().at(-1) ?? "").filter((name) => !name.endsWith(".changed.json"));
  assert.deepEqual(files, Object.keys(TOPICS).map((topic) => `${topic}.json`).toSorted());
});
