import assert from "node:assert/strict";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { CHAT as CHAT_FLAGS } from "../../supabase/functions/chat/adapters/feature_flags.ts";
import { FlagsClient } from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";
import { FakeClock, settle } from "./fake_clock.ts";
import { FakeDatabase } from "./fake_database.ts";

const FLAGS = [
  { name: "off", enabled: false },
  { name: "split", percentage: 50, cohort_key: "chat-v2", killed_by: ["stop"] },
  { name: "on", default_value: true },
];
const PAIR = { name: "chat_messages", stage: "live", gate_flag: "on" };

async function setUp(captureExposures = true) {
  const clock = new FakeClock();
  const database = new FakeDatabase({ flags: FLAGS, pairs: [PAIR] });
  const logged: string[] = [];
  const client = new FlagsClient({
    database,
    clock,
    bootstrap: readBootstrap({}, CHAT_FLAGS),
    captureExposures,
    log: (message) => logged.push(message),
  });
  await client.view();
  return { client, clock, database, logged };
}

const ONE = { user_id: "user-1" };
const TWO = { user_id: "user-2" };

Deno.test("answers are added up and reported once, behind the response", async () => {
  const { client, clock, database } = await setUp();
  const view = client.peek();
  view.isEnabled("split", ONE);
  view.isEnabled("split", TWO);
  view.evaluate("split", TWO);
  view.isEnabled("off", {});
  view.evaluate("on", {});
  await clock.advance(999);
  assert.deepEqual(database.exposures, []);
  await clock.advance(1);
  assert.deepEqual(database.exposures, [[
    { flag: "split", variant: "off", reason: "SPLIT", count: 1 },
    { flag: "split", variant: "on", reason: "SPLIT", count: 2 },
    { flag: "off", variant: "off", reason: "DISABLED", count: 1 },
    { flag: "on", variant: "on", reason: "DEFAULT", count: 1 },
  ]]);
  await clock.advance(60_000);
  assert.equal(database.exposures.length, 1);
  assert.equal(clock.pending, 0);
});

Deno.test("the flag that gates a pair counts when a backend is chosen", async () => {
  const { client, database } = await setUp();
  client.peek().chooseBackend("chat_messages", ONE);
  await client.exposures?.flush();
  assert.deepEqual(database.exposures, [[
    { flag: "on", variant: "on", reason: "DEFAULT", count: 1 },
  ]]);
});

Deno.test("a flag that does not exist is not counted", async () => {
  const { client, database } = await setUp();
  client.peek().evaluate("nowhere", {});
  await client.exposures?.flush();
  assert.deepEqual(database.exposures, []);
});

Deno.test("what was counted before the flags changed is reported after it", async () => {
  const { client, database } = await setUp();
  client.peek().isEnabled("on", {});
  database.version = 2;
  client.noteVersion(2);
  await client.view();
  client.peek().isEnabled("on", {});
  await client.exposures?.flush();
  assert.deepEqual(database.exposures, [[
    { flag: "on", variant: "on", reason: "DEFAULT", count: 2 },
  ]]);
});

Deno.test("answers of a copy past its hard age count as STALE", async () => {
  const { client, clock, database } = await setUp();
  database.failure = new Error("away");
  await clock.advance(60_000);
  const view = await client.view();
  view.isEnabled("split", TWO);
  view.isEnabled("on", {});
  database.failure = undefined;
  await client.exposures?.flush();
  assert.deepEqual(database.exposures, [[
    { flag: "split", variant: "off", reason: "STALE", count: 1 },
    { flag: "on", variant: "on", reason: "STALE", count: 1 },
  ]]);
});

Deno.test("a report that failed is kept, retried after a pause, and loses nothing", async () => {
  const { client, clock, database, logged } = await setUp();
  const view = client.peek();
  database.failure = new Error("away");
  view.isEnabled("on", {});
  await clock.advance(1_000);
  assert.equal(logged.length, 1);
  database.failure = undefined;
  view.isEnabled("on", {});
  await clock.advance(4_000);
  assert.equal(database.exposures.length, 1);
  await clock.advance(1_000);
  view.isEnabled("off", {});
  await clock.advance(1_000);
  assert.deepEqual(database.exposures[1], [
    { flag: "on", variant: "on", reason: "DEFAULT", count: 2 },
    { flag: "off", variant: "off", reason: "DISABLED", count: 1 },
  ]);
});

Deno.test("what is kept while the database is away does not grow with the traffic", async () => {
  const { client, clock, database } = await setUp();
  database.failure = new Error("away");
  for (let i = 0; i < 20; i++) {
    for (let j = 0; j < 1_000; j++) client.peek().isEnabled("split", { user_id: `user-${j}` });
    await clock.advance(6_000);
  }
  database.failure = undefined;
  await client.exposures?.flush();
  const last = database.exposures.at(-1) as { count: number }[];
  // On, off, and off again from the copy that has grown too old.
  assert.equal(last.length, 3);
  assert.equal(last.reduce((sum, entry) => sum + entry.count, 0), 20_000);
});

Deno.test("the version on a report's answer is noted", async () => {
  const { client, clock, database } = await setUp();
  client.peek().isEnabled("on", {});
  database.version = 2;
  await clock.advance(1_000);
  await client.exposures?.flush();
  await settle();
  assert.equal(client.version, 2);
});

Deno.test("nothing is counted when that is switched off", async () => {
  const { client, clock, database } = await setUp(false);
  client.peek().isEnabled("on", {});
  await clock.advance(2_000);
  assert.equal(client.exposures, undefined);
  assert.deepEqual(database.exposures, []);
});
