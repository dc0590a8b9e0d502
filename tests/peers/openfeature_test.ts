/**
 * The provider behind the real SDK: the scenarios of the specification's appendix B that a provider
 * of boolean flags can meet, and the events.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type Client,
  type EvaluationDetails,
  type Hook,
  OpenFeature,
  type Provider,
  ProviderEvents,
  StandardResolutionReasons as Reasons,
} from "@openfeature/server-sdk";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { CHAT as CHAT_FLAGS } from "../../supabase/functions/chat/adapters/feature_flags.ts";
import { FlagsClient } from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";
import { StoreError } from "../../supabase/functions/_shared/crossfade/http/store_error.ts";
import { CrossfadeProvider } from "../../supabase/functions/_shared/crossfade/openfeature/openfeature_provider.ts";
import { FakeClock, settle } from "../edge/fake_clock.ts";
import { FakeDatabase } from "../edge/fake_database.ts";

const SUITE = JSON.parse(
  Deno.readTextFileSync(new URL("../vectors/openfeature.json", import.meta.url)),
);
const FLAGS = [
  { name: "boolean-flag", default_value: true },
  { name: "split", percentage: 50, cohort_key: "chat-v2" },
  { name: "targeted", allow_user_ids: ["user-1"], deny_agent_ids: ["agent-7"] },
  { name: "disabled-flag", enabled: false },
  { name: "killed", default_value: true, killed_by: ["stop"] },
  { name: "child", default_value: true, prerequisites: ["disabled-flag"] },
];
const STOP = { name: "stop", engaged: true };

interface World {
  readonly client: Client;
  readonly clock: FakeClock;
  readonly flags: FlagsClient;
  readonly database: FakeDatabase;
  readonly events: string[];
  readonly changed: string[][];
}

/** Runs a scenario with a provider of its own; the SDK is one object for the whole process. */
function scenario(
  name: string,
  run: (world: World) => void | Promise<void>,
  begin = (_: FakeDatabase) => {},
) {
  Deno.test(name, async () => {
    const clock = new FakeClock();
    const database = new FakeDatabase({ flags: FLAGS, kill_switches: [STOP] });
    begin(database);
    const flags = new FlagsClient({
      database,
      clock,
      bootstrap: readBootstrap({}, CHAT_FLAGS),
      log: () => {},
    });
    // That this compiles is the proof of the form.
    const provider: Provider = new CrossfadeProvider(flags);
    const domain = name;
    const client = OpenFeature.getClient(domain);
    const events: string[] = [];
    const changed: string[][] = [];
    for (const event of Object.values(ProviderEvents)) {
      client.addHandler(event, () => void events.push(event));
    }
    client.addHandler(ProviderEvents.ConfigurationChanged, (details) => {
      changed.push(details?.flagsChanged ?? []);
    });
    await OpenFeature.setProviderAndWait(domain, provider).catch(() => {});
    await settle();
    try {
      await run({ client, clock, flags, database, events, changed });
    } finally {
      await OpenFeature.clearProviders();
      OpenFeature.clearHandlers();
    }
  });
}

interface Case {
  readonly name: string;
  readonly input: {
    readonly flag: string;
    readonly type: string;
    readonly default: unknown;
    readonly targeting_key?: string;
  };
  readonly expect: { readonly value: unknown; readonly reason: string; readonly error?: string };
}

/** Asks for a flag of any type; the SDK has one method for both kinds of numbers. */
function evaluated(client: Client, { flag, type, default: value, targeting_key }: Case["input"]) {
  const context = targeting_key === undefined ? {} : { targetingKey: targeting_key };
  if (type === "boolean") return client.getBooleanDetails(flag, value as boolean, context);
  if (type === "string") return client.getStringDetails(flag, value as string, context);
  if (type === "object") return client.getObjectDetails(flag, value as { a: number }, context);
  return client.getNumberDetails(flag, value as number, context);
}

for (const { name, input, expect } of SUITE.cases as Case[]) {
  scenario(`the providers' suite: ${name}`, async ({ client }) => {
    const { value, variant, reason, errorCode, errorMessage } = await evaluated(client, input);
    const told = { value, variant, reason, error: errorCode };
    assert.deepEqual(told, { variant: undefined, error: undefined, ...expect });
    assert.equal(Boolean(errorMessage), "error" in expect);
  }, (database) => database.rows = { flags: SUITE.flags });
}

function short({ value, variant, reason, errorCode }: EvaluationDetails<boolean>) {
  return { value, variant, reason, errorCode };
}

const on = (reason: string) => ({ value: true, variant: "on", reason, errorCode: undefined });
const off = (reason: string) => ({ value: false, variant: "off", reason, errorCode: undefined });

scenario("a boolean value is resolved, not the default", async ({ client }) => {
  assert.equal(await client.getBooleanValue("boolean-flag", false), true);
});

scenario("boolean details carry variant, reason and flat metadata", async ({ client }) => {
  const details = await client.getBooleanDetails("split", false, { targetingKey: "user-2" });
  assert.deepEqual(short(details), on(Reasons.SPLIT));
  const { flagMetadata } = details;
  assert.deepEqual(flagMetadata, {
    rule: "percentage",
    bucket: 5626,
    threshold: 50000,
    flags_version: 1,
  });
});

scenario(
  "context decides: user, agent, and a user_id before the targeting key",
  async ({ client }) => {
    const ask = async (context: Record<string, string>) =>
      short(await client.getBooleanDetails("targeted", true, context));
    assert.deepEqual(await ask({ targetingKey: "user-1" }), on(Reasons.TARGETING_MATCH));
    assert.deepEqual(
      await ask({ targetingKey: "x", user_id: "user-1" }),
      on(Reasons.TARGETING_MATCH),
    );
    assert.deepEqual(
      await ask({ targetingKey: "user-1", agent_id: "agent-7" }),
      off(Reasons.TARGETING_MATCH),
    );
    assert.deepEqual(await ask({ targetingKey: "user-9" }), off(Reasons.DEFAULT));
    assert.deepEqual(await ask({}), off(Reasons.DEFAULT));
  },
);

scenario("contexts of API, client and invocation are merged, the last wins", async ({ client }) => {
  OpenFeature.setContext({ targetingKey: "user-8" });
  client.setContext({ user_id: "user-9" });
  assert.equal(await client.getBooleanValue("targeted", true), false);
  assert.equal(await client.getBooleanValue("targeted", false, { user_id: "user-1" }), true);
  OpenFeature.setContext({});
});

scenario(
  "a disabled, a killed and an unmet flag are off with reason DISABLED",
  async ({ client }) => {
    for (const name of ["disabled-flag", "killed", "child"]) {
      assert.deepEqual(
        short(await client.getBooleanDetails(name, true)),
        off(Reasons.DISABLED),
        name,
      );
    }
    const { flagMetadata } = await client.getBooleanDetails("killed", true);
    assert.equal(flagMetadata.kill_switch, "stop");
  },
);

scenario("a missing flag gives the default and FLAG_NOT_FOUND", async ({ client }) => {
  for (const fallback of [true, false]) {
    const { value, reason, errorCode } = await client.getBooleanDetails("missing", fallback);
    assert.deepEqual([value, reason, errorCode], [fallback, Reasons.ERROR, "FLAG_NOT_FOUND"]);
  }
  assert.equal((await client.getStringDetails("missing", "x")).errorCode, "FLAG_NOT_FOUND");
});

scenario("a wrong type gives the default and TYPE_MISMATCH", async ({ client }) => {
  const answers = [
    await client.getStringDetails("boolean-flag", "hi"),
    await client.getNumberDetails("boolean-flag", 10),
    await client.getObjectDetails("boolean-flag", { a: 1 }),
  ];
  assert.deepEqual(answers.map(({ value }) => value), ["hi", 10, { a: 1 }]);
  for (const { errorCode, reason } of answers) {
    assert.deepEqual([errorCode, reason], ["TYPE_MISMATCH", Reasons.ERROR]);
  }
});

scenario(
  "a context that cannot be read gives the default and INVALID_CONTEXT",
  async ({ client }) => {
    for (const user_id of [1.5, true, { a: 1 }, "a\0b"]) {
      const details = await client.getBooleanDetails("boolean-flag", false, { user_id });
      assert.deepEqual([details.value, details.errorCode], [false, "INVALID_CONTEXT"]);
    }
  },
);

scenario("an integer id is its decimal text", async ({ client, database }) => {
  database.version = 2;
  database.rows = { flags: [{ name: "f", allow_user_ids: ["42"] }] };
  await OpenFeature.setProviderAndWait("integer", makeProvider(database));
  const value = await OpenFeature.getClient("integer").getBooleanValue("f", false, { user_id: 42 });
  assert.equal(value, true);
  void client;
});

function makeProvider(database: FakeDatabase): Provider {
  const bootstrap = readBootstrap({}, CHAT_FLAGS);
  return new CrossfadeProvider(new FlagsClient({ database, bootstrap, clock: new FakeClock() }));
}

scenario("hooks see details and errors in order", async ({ client }) => {
  const seen: unknown[] = [];
  const hook: Hook = {
    before: () => void seen.push("before"),
    after: (_, details) => void seen.push(["after", details.variant]),
    error: (_, error) => void seen.push(["error", (error as { code?: string }).code]),
    finally: (_, details) => void seen.push(["finally", details.errorCode]),
  };
  await client.getBooleanValue("boolean-flag", false, {}, { hooks: [hook] });
  await client.getBooleanValue("missing", false, {}, { hooks: [hook] });
  await client.getStringValue("boolean-flag", "", {}, { hooks: [hook] });
  assert.deepEqual(seen, [
    "before",
    ["after", "on"],
    ["finally", undefined],
    "before",
    ["error", "FLAG_NOT_FOUND"],
    ["finally", "FLAG_NOT_FOUND"],
    "before",
    ["error", "TYPE_MISMATCH"],
    ["finally", "TYPE_MISMATCH"],
  ]);
});

scenario(
  "the provider is named, and ready once after the first read",
  ({ client, events }) => {
    assert.equal(client.metadata.providerMetadata.name, "crossfade");
    assert.deepEqual(events, ["PROVIDER_READY"]);
    assert.equal(client.providerStatus, "READY");
  },
);

scenario(
  "without the database the provider is in error, flags are not ready, and it recovers",
  async ({ client, clock, database, events }) => {
    assert.deepEqual([client.providerStatus, events], ["ERROR", ["PROVIDER_ERROR"]]);
    const { value, errorCode } = await client.getBooleanDetails("boolean-flag", false);
    assert.deepEqual([value, errorCode], [false, "PROVIDER_NOT_READY"]);
    database.failure = undefined;
    await clock.advance(1_000);
    assert.equal(await client.getBooleanValue("boolean-flag", false), true);
    assert.deepEqual(events, ["PROVIDER_ERROR", "PROVIDER_READY"]);
    assert.equal(client.providerStatus, "READY");
  },
  (database) => {
    database.failure = new Error("away");
  },
);

scenario(
  "a change is told with the flags that it touches",
  async ({ flags, clock, database, changed }) => {
    await clock.advance(1_000);
    database.version = 2;
    const rows = FLAGS.map((row) => row.name === "disabled-flag" ? { ...row, enabled: true } : row);
    database.rows = { flags: rows, kill_switches: [{ ...STOP, engaged: false }] };
    flags.noteVersion(2);
    await settle();
    // The flag itself, the one that needs it, and the one whose switch was released.
    assert.deepEqual(changed, [["child", "disabled-flag", "killed"]]);
    database.version = 3;
    await clock.advance(1_000);
    flags.noteVersion(3);
    await settle();
    assert.equal(changed.length, 1);
  },
);

scenario("a stale copy is told, answers STALE, and its end is told too", async (world) => {
  const { client, clock, database, events } = world;
  database.failure = new Error("away");
  await clock.advance(60_000);
  assert.deepEqual(short(await client.getBooleanDetails("boolean-flag", false)), on(Reasons.STALE));
  assert.deepEqual([client.providerStatus, events], ["STALE", [
    "PROVIDER_READY",
    "PROVIDER_STALE",
  ]]);
  database.failure = undefined;
  await clock.advance(5_000);
  assert.deepEqual(
    short(await client.getBooleanDetails("boolean-flag", false)),
    on(Reasons.STATIC),
  );
  assert.equal(events.at(-1), "PROVIDER_READY");
  assert.equal(client.providerStatus, "READY");
});

const REFUSED = new StoreError("no", { refused: true, status: 401, code: "PGRST301" });

scenario(
  "a key that is refused from the beginning is fatal",
  async ({ client, events }) => {
    assert.deepEqual([client.providerStatus, events], ["FATAL", ["PROVIDER_ERROR"]]);
    const { value, errorCode } = await client.getBooleanDetails("boolean-flag", false);
    assert.deepEqual([value, errorCode], [false, "PROVIDER_FATAL"]);
  },
  (database) => {
    database.failure = REFUSED;
  },
);

scenario("a key that is refused later is told as fatal when the copy is too old", async (world) => {
  const { client, clock, database, events } = world;
  database.failure = REFUSED;
  await clock.advance(60_000);
  await client.getBooleanValue("boolean-flag", false);
  assert.deepEqual([client.providerStatus, events.at(-1)], ["FATAL", "PROVIDER_ERROR"]);
  database.failure = undefined;
  await clock.advance(5_000);
  await world.flags.view();
  await settle();
  assert.equal(events.at(-1), "PROVIDER_READY");
});

scenario("nobody's context changes a flag that nothing targets: STATIC", async ({ client }) => {
  for (const targetingKey of ["user-1", "user-2"]) {
    const details = await client.getBooleanDetails("boolean-flag", false, { targetingKey });
    assert.deepEqual(short(details), on(Reasons.STATIC));
  }
});

scenario(
  "a copy that could not be read again answers CACHED until it is too old",
  async (world) => {
    const { client, clock, database } = world;
    database.failure = new Error("away");
    await clock.advance(5_000);
    await client.getBooleanValue("boolean-flag", false);
    await settle();
    for (const [name, reason] of [["boolean-flag", "CACHED"], ["killed", "DISABLED"]] as const) {
      assert.equal((await client.getBooleanDetails(name, false)).reason, reason, name);
    }
    database.failure = undefined;
    await clock.advance(5_000);
    await client.getBooleanValue("boolean-flag", false);
    await settle();
    assert.equal((await client.getBooleanDetails("boolean-flag", false)).reason, "STATIC");
  },
);

scenario(
  "after it was replaced the provider emits nothing more",
  async ({ client, clock, database, events }) => {
    await OpenFeature.setProviderAndWait(client.metadata.domain ?? "", makeProvider(database));
    const before = events.length;
    database.version = 9;
    database.rows = {};
    await clock.advance(60_000);
    assert.equal(events.length, before);
  },
);

scenario("details name their flag, and a null id is no id", async ({ client }) => {
  const details = await client.getBooleanDetails("targeted", true, { user_id: null });
  assert.deepEqual([details.flagKey, ...Object.values(short(details))], [
    "targeted",
    false,
    "off",
    Reasons.DEFAULT,
    undefined,
  ]);
});

scenario("a missing flag gives the default of every type", async ({ client }) => {
  const answers = [
    await client.getNumberDetails("missing", 0.1),
    await client.getObjectDetails("missing", { a: 1 }),
  ];
  assert.deepEqual(answers.map(({ value }) => value), [0.1, { a: 1 }]);
  assert.ok(answers.every(({ errorCode }) => errorCode === "FLAG_NOT_FOUND"));
});

Deno.test("before its first read has ended the provider is not ready", async () => {
  const database = new FakeDatabase({ flags: FLAGS });
  database.held = true;
  const started = OpenFeature.setProviderAndWait("early", makeProvider(database));
  const client = OpenFeature.getClient("early");
  const { value, errorCode } = await client.getBooleanDetails("boolean-flag", false);
  assert.deepEqual([value, errorCode, client.providerStatus], [
    false,
    "PROVIDER_NOT_READY",
    "NOT_READY",
  ]);
  database.release();
  await started;
  assert.equal(await client.getBooleanValue("boolean-flag", false), true);
  await OpenFeature.clearProviders();
});
