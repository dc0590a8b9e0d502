/**
 * Evaluations per second of one flag, ours and the peers', round beside round.
 *
 * Arguments: `full` (kill switch, parent, deny and allow list, percentage) or `share` (percentage
 * only), number of rounds, length of a round in ms. Prints one JSON object a round: contender ->
 * evaluations per second. Run by tests/bench.
 *
 * @module
 */

import { FlagdCore } from "@openfeature/flagd-core";
import { GrowthBookClient } from "@growthbook/growthbook";
import { initialize, InMemStorageProvider } from "unleash-client";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { CHAT as CHAT_FLAGS } from "../../supabase/functions/chat/adapters/feature_flags.ts";
import { FlagsClient } from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";

const FULL = Deno.args[0] !== "share";
const ROUNDS = Number(Deno.args[1] ?? 15);
const ROUND_MS = Number(Deno.args[2] ?? 150);
const NAME = "chat-v2";
const PERCENTAGE = 25;
const USERS = Array.from({ length: 10_000 }, () => crypto.randomUUID());
// Short lists: the peers look through theirs one by one.
const LISTED = FULL ? 10 : 0;
const DENIED = USERS.slice(0, LISTED);
const ALLOWED = USERS.slice(LISTED, 2 * LISTED);

/** Takes an index of USERS and says whether the flag is on. */
type Contender = (i: number) => boolean;

async function crossfade(): Promise<Record<string, Contender>> {
  const row = { killed_by: [], deny_user_ids: [], allow_user_ids: [], prerequisites: [] };
  const database = {
    readFlags: () =>
      Promise.resolve({
        flags_version: 1,
        flags: [
          { ...row, name: "parent", enabled: true, default_value: true },
          {
            name: NAME,
            enabled: true,
            percentage: PERCENTAGE,
            cohort_key: NAME,
            killed_by: FULL ? ["stop"] : [],
            prerequisites: FULL ? ["parent"] : [],
            deny_user_ids: DENIED,
            allow_user_ids: ALLOWED,
          },
        ],
        kill_switches: [{ name: "stop", engaged: false }, {
          name: "stop-all",
          overrides_all: true,
        }],
        pairs: [],
        settings: {},
      }),
    recordRequests: () => Promise.resolve({}),
    // Answers are counted, as in production.
    recordExposures: () => Promise.resolve({}),
  };
  const flags = new FlagsClient({ database, bootstrap: readBootstrap({}, CHAT_FLAGS) });
  const view = await flags.view();
  const contexts = USERS.map((user_id) => ({ user_id }));
  return {
    "crossfade": (i) => view.isEnabled(NAME, contexts[i] ?? {}),
    "crossfade, with details": (i) => view.evaluate(NAME, contexts[i] ?? {}).value,
  };
}

async function unleash(): Promise<Record<string, Contender>> {
  const notDenied = { contextName: "userId", operator: "NOT_IN", values: DENIED };
  const parent = { name: "parent", enabled: true, strategies: [{ name: "default" }] };
  const feature = {
    name: NAME,
    enabled: true,
    dependencies: FULL ? [{ feature: "parent" }] : [],
    strategies: [
      ...(FULL ? [{ name: "userWithId", parameters: { userIds: ALLOWED.join(",") } }] : []),
      {
        name: "flexibleRollout",
        parameters: { rollout: `${PERCENTAGE}`, stickiness: "userId", groupId: NAME },
        constraints: FULL ? [notDenied] : [],
      },
    ],
  };
  const client = initialize({
    appName: "bench",
    url: "http://127.0.0.1:9/api",
    customHeaders: { Authorization: "x" },
    disableMetrics: true,
    refreshInterval: 0,
    storageProvider: new InMemStorageProvider(),
    // deno-lint-ignore no-explicit-any -- the bench's rows are plain JSON
    bootstrap: { data: [parent, feature] as any },
  });
  // It also tries its server, which is not there: that is no part of what is measured.
  client.on("error", () => {});
  client.on("warn", () => {});
  await new Promise<void>((ready) => client.on("ready", ready));
  const contexts = USERS.map((userId) => ({ userId }));
  return { "unleash-client": (i) => client.isEnabled(NAME, contexts[i]) };
}

function flagd(): Record<string, Contender> {
  const key = { var: "targetingKey" };
  // It has no prerequisites; it is spared that work.
  const share = {
    fractional: [{ cat: [NAME, ":", key] }, ["on", PERCENTAGE], ["off", 100 - PERCENTAGE]],
  };
  const targeting = FULL
    ? { if: [{ in: [key, DENIED] }, "off", { in: [key, ALLOWED] }, "on", share] }
    : share;
  const core = new FlagdCore();
  core.setConfigurations(JSON.stringify({
    flags: {
      [NAME]: {
        state: "ENABLED",
        variants: { on: true, off: false },
        defaultVariant: "off",
        targeting,
      },
    },
  }));
  const contexts = USERS.map((targetingKey) => ({ targetingKey }));
  return {
    "@openfeature/flagd-core": (i) =>
      core.resolveBooleanEvaluation(NAME, false, contexts[i] ?? {}).value === true,
  };
}

function growthbook(): Record<string, Contender> {
  const listed = [
    { parentConditions: [{ id: "parent", condition: { value: true }, gate: true }] },
    { force: false, condition: { id: { $in: DENIED } } },
    { force: true, condition: { id: { $in: ALLOWED } } },
  ];
  const client = new GrowthBookClient().initSync({
    payload: {
      features: {
        parent: { defaultValue: true },
        [NAME]: {
          defaultValue: false,
          rules: [
            ...(FULL ? listed : []),
            { force: true, coverage: PERCENTAGE / 100, hashAttribute: "id", hashVersion: 2 },
          ],
        },
      },
    },
  });
  const contexts = USERS.map((id) => ({ attributes: { id } }));
  return { "@growthbook/growthbook": (i) => client.isOn(NAME, contexts[i] ?? { attributes: {} }) };
}

/** Every contender must do the work: the lists hold, and a quarter of the others is in. */
function check(name: string, on: Contender): void {
  const inside = USERS.map((_, i) => on(i));
  const others = inside.slice(2 * LISTED);
  const share = others.filter(Boolean).length / others.length;
  const lists = !inside.slice(0, LISTED).some(Boolean) &&
    inside.slice(LISTED, 2 * LISTED).every(Boolean);
  if (!lists || Math.abs(share - PERCENTAGE / 100) > 0.02) {
    throw new Error(`${name} does not evaluate the rules: ${share}, lists ${lists}`);
  }
}

function rate(on: Contender): number {
  const start = performance.now();
  let count = 0;
  let elapsed = 0;
  while (elapsed < ROUND_MS) {
    // Looking at the clock costs more than an evaluation.
    for (let i = 0; i < 1_000; i++) on((count + i) % USERS.length);
    count += 1_000;
    elapsed = performance.now() - start;
  }
  return count / elapsed * 1000;
}

const contenders = Object.entries({
  ...await crossfade(),
  ...await unleash(),
  ...flagd(),
  ...growthbook(),
});
for (const [name, on] of contenders) {
  check(name, on);
  rate(on);
}
for (let round = 0; round < ROUNDS; round++) {
  // Every other round the other way round, so that nobody is always first.
  const order = round % 2 === 0 ? contenders : contenders.toReversed();
  console.log(JSON.stringify(Object.fromEntries(order.map(([name, on]) => [name, rate(on)]))));
}
Deno.exit(0);
