import assert from "node:assert/strict";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { CHAT as CHAT_FLAGS } from "../../supabase/functions/chat/adapters/feature_flags.ts";
import {
  FlagsClient,
  type View,
} from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";
import type { FlagsOptions } from "../../supabase/functions/_shared/crossfade/flags/flags_options.ts";
import { FakeClock, settle } from "./fake_clock.ts";
import { FakeDatabase } from "./fake_database.ts";
import { flagsAnswer, type Rows } from "./builders.ts";

const ON = { name: "f", default_value: true };
const KILLABLE = { name: "k", default_value: true, killed_by: ["stop_k"] };
const PAIR = { name: "chat_messages", stage: "rampdown" };

interface Setup extends Partial<FlagsOptions> {
  readonly environment?: Record<string, string>;
  readonly bundled?: unknown;
}

function setUp({ environment = {}, bundled = {}, ...options }: Setup = {}) {
  const clock = new FakeClock();
  const database = new FakeDatabase({ flags: [ON, KILLABLE], pairs: [PAIR] });
  const logged: string[] = [];
  const client = new FlagsClient({
    database,
    clock,
    bootstrap: readBootstrap(environment, CHAT_FLAGS, bundled),
    log: (message) => logged.push(message),
    ...options,
  });
  return { client, clock, database, logged };
}

async function look(client: FlagsClient): Promise<View> {
  return await client.view();
}

/** A request that comes when the next read may begin. */
async function later(client: FlagsClient, clock: FakeClock): Promise<void> {
  await clock.advance(1_000);
  client.view();
  await settle();
}

function value(view: View, flag: string): [boolean, string] {
  const details = view.evaluate(flag, { user_id: "user-1" });
  return [details.value, details.reason];
}

Deno.test("the first request waits for the first read", async () => {
  const { client, database } = setUp();
  const view = await look(client);
  assert.deepEqual(value(view, "f"), [true, "DEFAULT"]);
  assert.equal(view.snapshot.origin, "database");
  assert.deepEqual(database.reads, [null]);
});

Deno.test("requests at the same time share one read", async () => {
  const { client, database } = setUp();
  const views = await Promise.all([look(client), look(client), look(client)]);
  assert.equal(database.reads.length, 1);
  assert.ok(views.every((view) => view.snapshot === views[0]?.snapshot));
});

Deno.test("a young copy is given at once, without a promise and without a read", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  await clock.advance(4_999);
  assert.ok(!(client.view() instanceof Promise));
  assert.equal(database.reads.length, 1);
});

Deno.test("past the soft age the old copy is given and a new one read behind the request", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  database.version = 2;
  database.rows = { flags: [{ ...ON, default_value: false }] };
  await clock.advance(5_000);
  const view = client.view();
  assert.ok(!(view instanceof Promise));
  assert.deepEqual(value(view, "f"), [true, "DEFAULT"]);
  await settle();
  assert.deepEqual(value(await look(client), "f"), [false, "DEFAULT"]);
  assert.deepEqual(database.reads, [null, 1]);
});

Deno.test("a view never changes under a request", async () => {
  const { client, clock, database } = setUp();
  const view = await look(client);
  database.version = 2;
  database.rows = {};
  await clock.advance(1_000);
  client.noteVersion(2);
  await settle();
  assert.deepEqual(value(view, "f"), [true, "DEFAULT"]);
  assert.equal(value(await look(client), "f")[1], "ERROR");
});

Deno.test("an answer `unchanged` makes the copy young again", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  await clock.advance(6_000);
  client.view();
  await settle();
  await clock.advance(4_000);
  client.view();
  await settle();
  assert.deepEqual(database.reads, [null, 1]);
});

Deno.test("age counts from the beginning of the read", async () => {
  const { client, clock, database } = setUp();
  database.held = true;
  const first = look(client);
  await clock.advance(400);
  database.release();
  await first;
  await clock.advance(4_600);
  client.view();
  await settle();
  assert.equal(database.reads.length, 2);
});

Deno.test("a failed refresh keeps the copy until the hard age", async () => {
  const { client, clock, database, logged } = setUp();
  await look(client);
  database.failure = new Error("away");
  await clock.advance(59_999);
  client.view();
  await settle();
  assert.deepEqual(value(await look(client), "k"), [true, "DEFAULT"]);
  assert.equal(logged.length, 1);
});

Deno.test("past the hard age what can be killed is off, and V1 serves", async () => {
  const { client, clock, database } = setUp();
  assert.equal((await look(client)).chooseBackend("chat_messages", {}).backend, 2);
  database.failure = new Error("away");
  await clock.advance(60_000);
  const view = await look(client);
  assert.ok(view.stale);
  assert.deepEqual(value(view, "k"), [false, "STALE"]);
  assert.deepEqual(value(view, "f"), [true, "STALE"]);
  const { backend, reason } = view.chooseBackend("chat_messages", {});
  assert.deepEqual([backend, reason], [1, "STALE"]);
});

Deno.test("past the hard age a request that can read is not stale", async () => {
  const { client, clock } = setUp();
  await look(client);
  await clock.advance(3_600_000);
  const view = await look(client);
  assert.ok(!view.stale);
  assert.deepEqual(value(view, "k"), [true, "DEFAULT"]);
});

Deno.test("past the hard age environment variables replace the last copy", async () => {
  const { client, clock, database } = setUp({ environment: { ENABLE_CACHING: "true" } });
  database.rows = { flags: [{ name: "enable_caching" }] };
  assert.deepEqual(value(await look(client), "enable_caching"), [false, "DEFAULT"]);
  database.failure = new Error("away");
  await clock.advance(60_000);
  assert.deepEqual(value(await look(client), "enable_caching"), [true, "STALE"]);
});

Deno.test("the copy recovers when the database answers again", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  database.failure = new Error("away");
  await clock.advance(60_000);
  assert.ok((await look(client)).stale);
  database.failure = undefined;
  await clock.advance(5_000);
  assert.ok(!(await look(client)).stale);
});

Deno.test("after a failure requests do not wait until it is time to try again", async () => {
  const { client, clock, database } = setUp();
  database.failure = new Error("away");
  await look(client);
  assert.ok(!(client.view() instanceof Promise));
  assert.equal(database.reads.length, 1);
  await clock.advance(1_000);
  await look(client);
  assert.equal(database.reads.length, 2);
});

Deno.test("the first request waits for seconds, later ones for what is left of them", async () => {
  const { client, clock, database } = setUp({ environment: { ENABLE_CACHING: "on" } });
  database.held = true;
  const waiting = look(client);
  await clock.advance(3_000);
  const second = look(client);
  await clock.advance(2_000);
  for (const view of [await waiting, await second]) {
    assert.equal(view.snapshot.origin, "environment");
    assert.deepEqual(value(view, "enable_caching"), [true, "DEFAULT"]);
  }
  assert.ok(!(client.view() instanceof Promise));
  assert.equal(database.reads.length, 1);
});

for (const seconds of [0.6, 3, 7]) {
  Deno.test(`an answer that comes after ${seconds} s is kept`, async () => {
    const { client, clock, database } = setUp();
    database.held = true;
    const first = look(client);
    await clock.advance(Math.min(seconds, 5) * 1_000);
    if (seconds > 5) {
      assert.equal((await first).snapshot.origin, "environment");
      await clock.advance((seconds - 5) * 1_000);
    }
    database.release();
    await settle();
    const view = client.peek();
    assert.equal(view.snapshot.origin, "database");
    assert.deepEqual(value(view, "f"), [true, "DEFAULT"]);
    assert.equal(database.reads.length, 1);
  });
}

Deno.test("a read that does not answer at all ends after 10 s, and the next one begins later", async () => {
  const { client, clock, database } = setUp();
  database.held = true;
  look(client);
  await clock.advance(10_000);
  assert.equal(clock.pending, 0);
  client.view();
  assert.equal(database.reads.length, 1);
  await clock.advance(1_000);
  client.view();
  assert.equal(database.reads.length, 2);
});

Deno.test("without database and variables everything is off and V1 serves", async () => {
  const { client, database } = setUp();
  database.failure = new Error("away");
  const view = await look(client);
  assert.deepEqual(value(view, "enable_caching"), [false, "DISABLED"]);
  assert.equal(view.chooseBackend("chat_messages", { user_id: "user-1" }).backend, 1);
});

Deno.test("an answer that cannot be understood does not replace a good copy", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  database.version = 2;
  database.rows = { pairs: [{ name: "chat_messages", stage: "sideways" }] };
  await clock.advance(5_000);
  client.view();
  await settle();
  assert.equal(client.version, 1);
  assert.deepEqual(value(await look(client), "f"), [true, "DEFAULT"]);
});

Deno.test("a newer version seen on an answer starts a read, an older one does not", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  await clock.advance(1_000);
  client.noteVersion(1);
  client.noteVersion("0");
  client.noteVersion("soon");
  client.noteVersion(undefined);
  await settle();
  assert.equal(database.reads.length, 1);
  database.version = 5;
  client.noteVersion("5");
  await settle();
  assert.equal(client.version, 5);
  assert.equal(database.reads.length, 2);
});

Deno.test("a version noted while a read is under way is read afterwards", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  await clock.advance(1_000);
  database.version = 2;
  database.held = true;
  client.noteVersion(2);
  await settle();
  // The held answer was made at version 2; meanwhile version 3 is out.
  database.version = 3;
  client.noteVersion(3);
  database.release();
  await settle();
  await later(client, clock);
  assert.equal(client.version, 3);
  assert.equal(database.reads.length, 3);
});

Deno.test("an announced change is read at once, also right after another read", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  for (const version of [2, 3, 4]) {
    await clock.advance(100);
    database.version = version;
    client.announce(version);
    await settle();
    assert.equal(client.version, version);
  }
});

Deno.test("a change announced during a read is read afterwards, without a request", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  await clock.advance(100);
  database.version = 2;
  database.held = true;
  client.announce();
  await settle();
  database.version = 3;
  client.announce();
  database.release();
  await settle();
  await clock.advance(100);
  await settle();
  assert.equal(client.version, 3);
});

Deno.test("announcements never make more than ten reads a second", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  for (let ms = 0; ms < 2_000; ms += 5) {
    await clock.advance(5);
    client.announce();
  }
  assert.ok(database.reads.length <= 21, String(database.reads.length));
});

Deno.test("no turn of a read loses a hint", async () => {
  // The hint comes so many turns of the event loop after the read began: one of them is the last.
  for (let turns = 0; turns < 40; turns++) {
    const { client, clock, database } = setUp();
    await look(client);
    await clock.advance(1_000);
    database.version = 2;
    client.noteVersion(2);
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    database.version = 3;
    client.noteVersion(3);
    await settle();
    await later(client, clock);
    assert.equal(client.version, 3, `after ${turns} turns`);
  }
});

Deno.test("a hint whose read failed is made up for by the next request after the wait", async () => {
  const { client, clock, database } = setUp();
  await look(client);
  await clock.advance(1_000);
  database.failure = new Error("away");
  database.version = 2;
  client.noteVersion(2);
  await settle();
  database.failure = undefined;
  await later(client, clock);
  assert.equal(client.version, 2);
});

/** Reasons to read that traffic brings, each for as long as a minute at 100 requests a second. */
const REASONS: Readonly<Record<string, (client: FlagsClient, database: FakeDatabase) => void>> = {
  "fallbacks": (client) => client.hint(),
  "ever newer versions": (client, database) => client.noteVersion(database.version += 1),
  "a replica that lags": (client) => client.noteVersion(99),
  "a database that is away": (client, database) => {
    database.failure = new Error("away");
    client.hint();
  },
  "answers that are nonsense": (client, database) => {
    database.rows = { pairs: [{ name: "chat_messages", stage: "sideways" }] };
    client.noteVersion(database.version += 1);
  },
};

for (const [reason, happen] of Object.entries(REASONS)) {
  for (const unread of [true, false]) {
    const when = unread ? "before the first read" : "afterwards";
    Deno.test(`at most one read a second: ${reason}, ${when}`, async () => {
      const { client, clock, database } = setUp();
      if (!unread) await look(client);
      const starts: number[] = [];
      for (let ms = 0; ms < 60_000; ms += 10) {
        const before = database.reads.length;
        happen(client, database);
        void client.view();
        await settle();
        if (database.reads.length > before) starts.push(ms);
        assert.ok(database.reads.length - before <= 1);
        await clock.advance(10);
      }
      const gaps = starts.slice(1).map((at, i) => at - (starts[i] ?? 0));
      assert.ok(starts.length > 5, `${starts.length} reads`);
      assert.ok(gaps.every((gap) => gap >= 1_000), `gaps ${Math.min(...gaps)} ms`);
    });
  }
}

Deno.test("an older answer does not replace a newer copy until the hard age", async () => {
  const { client, clock, database } = setUp();
  database.version = 5;
  await look(client);
  // A replica that lags, or a restored backup.
  database.version = 3;
  await clock.advance(5_000);
  client.view();
  await settle();
  assert.deepEqual([client.version, client.conflicts], [5, 1]);
  await clock.advance(55_000);
  await look(client);
  assert.deepEqual([client.version, client.conflicts], [3, 1]);
});

Deno.test("a version that the database does not give is counted as a conflict", async () => {
  const { client, clock } = setUp();
  await look(client);
  await clock.advance(1_000);
  client.noteVersion(99);
  await settle();
  assert.equal(client.conflicts, 1);
});

Deno.test("a listener hears of every new copy and not of an unchanged one", async () => {
  const { client, clock, database } = setUp();
  const heard: [number, number][] = [];
  client.subscribe((now, before) => heard.push([before.version, now.version]));
  await look(client);
  await clock.advance(5_000);
  client.view();
  await settle();
  database.version = 2;
  client.noteVersion(2);
  await later(client, clock);
  assert.deepEqual(heard, [[0, 1], [1, 2]]);
});

Deno.test("a listener that throws is logged, and the copy is taken", async () => {
  const { client, logged } = setUp();
  client.subscribe(() => {
    throw new Error("mine");
  });
  assert.ok(!(await look(client)).stale);
  assert.deepEqual([client.version, logged.length], [1, 1]);
});

Deno.test("ages come from the settings of the copy", async () => {
  const { client, clock, database } = setUp();
  database.rows = { settings: { flags_soft_age_ms: 1_000, flags_hard_age_ms: 2_000 } };
  await look(client);
  database.failure = new Error("away");
  await clock.advance(1_999);
  assert.ok(!client.peek().stale);
  await clock.advance(1);
  assert.ok(client.peek().stale);
});

Deno.test("given ages win over the settings", async () => {
  const { client, clock, database } = setUp({ softAgeMs: 10, hardAgeMs: 20 });
  database.rows = { settings: { flags_hard_age_ms: 2_000 } };
  await look(client);
  await clock.advance(20);
  assert.ok(client.peek().stale);
});

Deno.test("KILL_SWITCH_* wins over the database, before and after it is read", async () => {
  const environment = { KILL_SWITCH_DISABLE_V2_MESSAGES: "true", USE_ADVANCED_MESSAGES: "true" };
  const { client, database } = setUp({ environment });
  database.rows = {
    pairs: [PAIR],
    kill_switches: [{ name: "disable_v2_messages", engaged: false, pair: "orders" }],
  };
  const before = client.peek().chooseBackend("chat_messages", {});
  assert.deepEqual([before.backend, before.rule], [1, "kill_switch"]);
  const after = (await look(client)).chooseBackend("chat_messages", {});
  assert.deepEqual([after.backend, after.rule], [1, "kill_switch"]);
});

Deno.test("KILL_SWITCH_* that is not true does nothing", async () => {
  const { client } = setUp({ environment: { KILL_SWITCH_EMERGENCY_ROLLBACK: "false" } });
  assert.equal((await look(client)).chooseBackend("chat_messages", {}).backend, 2);
});

Deno.test("the bootstrap cohort serves V2 until the database has been read", async () => {
  const environment = {
    USE_ADVANCED_MESSAGES: "true",
    ROLLOUT_PERCENTAGE: "0",
    ENABLED_USER_IDS: "user-1, user-2",
    ENABLED_AGENT_IDS: "agent-7",
  };
  const { client, database } = setUp({ environment });
  database.failure = new Error("away");
  const view = await look(client);
  const backend = (context: Record<string, string>) =>
    view.chooseBackend("chat_messages", context).backend;
  assert.equal(backend({ user_id: "user-2" }), 2);
  assert.equal(backend({ user_id: "x", agent_id: "agent-7" }), 2);
  assert.equal(backend({ user_id: "x" }), 1);
});

Deno.test("a percentage in the environment that is none counts as 0 and is told", () => {
  for (const text of ["12.3456", "101", "many", "-1", "5e1"]) {
    const { warnings, snapshot } = readBootstrap({ ROLLOUT_PERCENTAGE: text }, CHAT_FLAGS);
    assert.equal(warnings.length, 1, text);
    assert.equal(snapshot.pairs.get("chat_messages")?.cohort.threshold, 0, text);
  }
  const { warnings, snapshot } = readBootstrap({ ROLLOUT_PERCENTAGE: " 12.345 " }, CHAT_FLAGS);
  assert.deepEqual(warnings, []);
  assert.equal(snapshot.pairs.get("chat_messages")?.cohort.threshold, 12_345);
});

Deno.test("variables that say DISABLE switch off when true and on when false", () => {
  const { snapshot } = readBootstrap(
    { DISABLE_DUAL_WRITE: "true", DISABLE_AUTO_MIGRATE: "false" },
    CHAT_FLAGS,
  );
  assert.equal(snapshot.flags.get("maintain_dual_write")?.enabled, false);
  assert.equal(snapshot.flags.get("auto_migrate_messages")?.enabled, true);
});

const CACHING = { name: "enable_caching", default_value: true };
const MEMORY = { name: "enable_memory_system", default_value: true, killed_by: ["disable_memory"] };
const BUNDLED: Rows = { flags: [CACHING, MEMORY], pairs: [PAIR] };

async function withoutDatabase(bundled: unknown, environment = {}): Promise<View> {
  const { client, database } = setUp({ environment, bundled });
  database.failure = new Error("away");
  return await look(client);
}

Deno.test("without the database a bundled snapshot answers as a stale one", async () => {
  const view = await withoutDatabase(flagsAnswer(41, BUNDLED));
  assert.deepEqual(value(view, "enable_caching"), [true, "STALE"]);
  assert.deepEqual(value(view, "enable_memory_system"), [false, "STALE"]);
  const { backend, reason } = view.chooseBackend("chat_messages", {});
  assert.deepEqual([backend, reason], [1, "STALE"]);
});

Deno.test("a bundled pair that was complete is served from V2, because V1 is an archive", async () => {
  const rows = { ...BUNDLED, pairs: [{ ...PAIR, stage: "complete" }] };
  for (const environment of [{}, { USE_ADVANCED_MESSAGES: "false" }]) {
    const view = await withoutDatabase(flagsAnswer(41, rows), environment);
    assert.equal(view.chooseBackend("chat_messages", {}).backend, 2);
  }
});

Deno.test("variables win over the bundled snapshot", async () => {
  const environment = {
    ENABLE_CACHING: "false",
    USE_ADVANCED_MESSAGES: "true",
    ROLLOUT_PERCENTAGE: "100",
  };
  const view = await withoutDatabase(flagsAnswer(41, BUNDLED), environment);
  assert.deepEqual(value(view, "enable_caching"), [false, "DISABLED"]);
  assert.equal(view.chooseBackend("chat_messages", {}).backend, 2);
});

Deno.test("KILL_SWITCH_* wins over the bundled snapshot, and a bundled kill holds", async () => {
  const rows = {
    ...BUNDLED,
    pairs: [{ ...PAIR, stage: "live" }],
    kill_switches: [{ name: "disable_memory", engaged: true }],
  };
  const environment = { KILL_SWITCH_DISABLE_V2_MESSAGES: "true" };
  const view = await withoutDatabase(flagsAnswer(41, rows), environment);
  assert.equal(view.chooseBackend("chat_messages", {}).rule, "kill_switch");
  assert.deepEqual(value(view, "enable_memory_system"), [false, "DISABLED"]);
});

Deno.test("the database wins over the bundled snapshot as soon as it is read", async () => {
  const { client, database } = setUp({ bundled: flagsAnswer(41, BUNDLED) });
  database.rows = { flags: [{ ...CACHING, default_value: false }], pairs: [PAIR] };
  const view = await look(client);
  assert.deepEqual(value(view, "enable_caching"), [false, "DEFAULT"]);
  assert.equal(view.chooseBackend("chat_messages", {}).backend, 2);
  assert.equal(client.version, 1);
});

Deno.test("a flag is known when it was deployed with the function, then when the database has it", async () => {
  const environment = { ENABLE_PARALLEL_TOOLS: "true" };
  const { client } = setUp({ environment, bundled: flagsAnswer(41, BUNDLED) });
  const known = () =>
    ["enable_parallel_tools", "enable_caching", "enable_state_management", "f"]
      .filter((name) => client.knows(name));
  assert.deepEqual([client.isReady, known()], [false, ["enable_parallel_tools", "enable_caching"]]);
  await look(client);
  assert.deepEqual([client.isReady, known()], [true, ["f"]]);
});

Deno.test("a bundled snapshot that cannot be read is told and counts as none", () => {
  for (const bundled of [[], "x", { flags_version: 1 }, { flags_version: "1" }]) {
    const { warnings, snapshot } = readBootstrap({}, CHAT_FLAGS, bundled);
    assert.equal(warnings.length, 1);
    assert.equal(snapshot.flags.get("enable_caching")?.enabled, false);
  }
});

Deno.test("a kill switch handler hears of engage and release", async () => {
  const { client, clock, database } = setUp();
  const heard: [string, boolean][] = [];
  client.killSwitches.register("stop_k", (engaged, name) => heard.push([name, engaged]));
  await look(client);
  for (const engaged of [true, true, false]) {
    database.version += 1;
    database.rows = { kill_switches: [{ name: "stop_k", engaged }] };
    client.noteVersion(database.version);
    await later(client, clock);
  }
  assert.deepEqual(heard, [["stop_k", true], ["stop_k", false]]);
});

Deno.test("a handler registered after the kill is called at once", () => {
  const { client } = setUp({ environment: { KILL_SWITCH_STOP_K: "1" } });
  const heard: boolean[] = [];
  client.killSwitches.register("stop_k", (engaged) => heard.push(engaged));
  assert.deepEqual(heard, [true]);
});

Deno.test("a handler that throws keeps nobody else from hearing", async () => {
  const { client, database, logged } = setUp();
  const heard: boolean[] = [];
  client.killSwitches.register("stop_k", () => {
    throw new Error("mine");
  });
  client.killSwitches.register("stop_k", (engaged) => heard.push(engaged));
  database.rows = { kill_switches: [{ name: "stop_k" }] };
  await look(client);
  assert.deepEqual(heard, [true]);
  assert.equal(logged.length, 1);
});

Deno.test("a handler that was taken away hears nothing", async () => {
  const { client, database } = setUp();
  const heard: boolean[] = [];
  client.killSwitches.register("stop_k", (engaged) => heard.push(engaged))();
  database.rows = { kill_switches: [{ name: "stop_k" }] };
  await look(client);
  assert.deepEqual(heard, []);
});

Deno.test("a handler that rejects is logged like one that throws", async () => {
  const { client, database, logged } = setUp();
  client.killSwitches.register("stop_k", () => Promise.reject(new Error("mine")));
  database.rows = { kill_switches: [{ name: "stop_k" }] };
  await look(client);
  await settle();
  assert.equal(logged.length, 1);
});

Deno.test("a handler that registers another one has it called once", async () => {
  const { client, database } = setUp();
  let calls = 0;
  client.killSwitches.register("stop_k", () => {
    client.killSwitches.register("stop_k", () => calls += 1);
  });
  database.rows = { kill_switches: [{ name: "stop_k" }] };
  await look(client);
  assert.equal(calls, 1);
});
