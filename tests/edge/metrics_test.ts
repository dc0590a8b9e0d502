import assert from "node:assert/strict";
import {
  isolateMemory,
  type RecorderOptions,
  type RequestEvent,
  RequestRecorder,
} from "../../supabase/functions/_shared/crossfade/serve/metrics.ts";
import { FakeClock, settle } from "./fake_clock.ts";
import { FakeDatabase } from "./fake_database.ts";

function event(latency: number): RequestEvent {
  return {
    pair: "chat_messages",
    backend_version: 1,
    wire_version: 1,
    outcome: "ok",
    latency_ms: latency,
  };
}

function setUp(options: Partial<RecorderOptions> = {}) {
  const clock = new FakeClock();
  const database = new FakeDatabase();
  const logged: string[] = [];
  const recorder = new RequestRecorder({
    database,
    clock,
    log: (message) => logged.push(message),
    ...options,
  });
  return { clock, database, recorder, logged };
}

Deno.test("events of a short time go in one batch", async () => {
  const { clock, database, recorder } = setUp();
  recorder.record(event(1));
  await clock.advance(100);
  recorder.record(event(2));
  assert.equal(database.batches.length, 0);
  await clock.advance(100);
  assert.deepEqual(database.batches, [[event(1), event(2)]]);
});

Deno.test("one event of a batch carries the memory used when it is sent", async () => {
  let used: number | undefined = 1000;
  const { clock, database, recorder } = setUp({ memory: () => used });
  database.failure = new Error("away");
  recorder.record(event(1));
  recorder.record(event(2));
  await clock.advance(200);
  used = 2000;
  database.failure = undefined;
  recorder.record(event(3));
  await clock.advance(200);
  const weighed = { ...event(1), memory_bytes: 2000 };
  assert.deepEqual(database.batches.at(-1), [weighed, event(2), event(3)]);
  used = undefined;
  recorder.record(event(4));
  await clock.advance(200);
  assert.deepEqual(database.batches.at(-1), [event(4)]);
});

Deno.test("the first event of each pair carries the version of the bundled flags", async () => {
  const { clock, database, recorder } = setUp({ bundleVersion: 7 });
  const other = { ...event(2), pair: "orders" };
  for (const one of [event(1), other, event(3)]) recorder.record(one);
  await clock.advance(200);
  const told = { bundle_version: 7 };
  assert.deepEqual(database.batches, [[{ ...event(1), ...told }, { ...other, ...told }, event(3)]]);
});

Deno.test("isolateMemory() is what the runtime says", () => {
  const used = isolateMemory();
  assert.ok(used !== undefined && used > 2 ** 20, `${used}`);
});

Deno.test("a full batch goes at once", async () => {
  const { database, recorder } = setUp({ batchSize: 3 });
  for (const latency of [1, 2, 3, 4]) recorder.record(event(latency));
  await settle();
  assert.deepEqual(database.batches, [[event(1), event(2), event(3)]]);
  assert.equal(recorder.waiting, 1);
});

Deno.test("flush sends what is waiting", async () => {
  const { database, recorder } = setUp();
  recorder.record(event(1));
  await recorder.flush();
  assert.equal(database.batches.length, 1);
  assert.equal(recorder.waiting, 0);
});

Deno.test("recording never throws, and a failed batch is kept for the next request", async () => {
  const { clock, database, recorder, logged } = setUp();
  database.failure = new Error("away");
  recorder.record(event(1));
  await clock.advance(200);
  assert.equal(recorder.waiting, 1);
  assert.equal(logged.length, 1);
  database.failure = undefined;
  recorder.record(event(2));
  await clock.advance(200);
  assert.deepEqual(database.batches.at(-1), [event(1), event(2)]);
  assert.equal(recorder.waiting, 0);
});

Deno.test("a long outage is logged once and keeps a bounded number, the newest", async () => {
  const { clock, database, recorder, logged } = setUp({ capacity: 3 });
  database.failure = new Error("away");
  for (const latency of [1, 2, 3, 4, 5]) {
    recorder.record(event(latency));
    await clock.advance(200);
  }
  assert.equal(recorder.waiting, 3);
  assert.equal(recorder.dropped, 2);
  assert.equal(logged.length, 1);
  database.failure = undefined;
  recorder.record(event(6));
  await clock.advance(200);
  assert.deepEqual(database.batches.at(-1), [event(4), event(5), event(6)]);
});

Deno.test("the version on the answer is handed on", async () => {
  const versions: unknown[] = [];
  const { clock, database, recorder } = setUp({ onVersion: (version) => versions.push(version) });
  database.version = 42;
  recorder.record(event(1));
  await clock.advance(200);
  assert.deepEqual(versions, [42]);
});

Deno.test("the batch is handed to the runtime so that the isolate stays alive for it", async () => {
  const work: Promise<unknown>[] = [];
  const { clock, recorder } = setUp({ background: (promise) => work.push(promise) });
  recorder.record(event(1));
  assert.equal(work.length, 1);
  await clock.advance(200);
  await work[0];
  assert.equal(recorder.waiting, 0);
});
