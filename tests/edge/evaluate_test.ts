import assert from "node:assert/strict";
import { chooseBackend } from "../../supabase/functions/_shared/crossfade/flags/choose_backend.ts";
import {
  type Context,
  evaluate,
  isEnabled,
  type Options,
} from "../../supabase/functions/_shared/crossfade/flags/evaluate.ts";
import { explain } from "../../supabase/functions/_shared/crossfade/flags/explain.ts";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import {
  parseSnapshot,
  type Row,
} from "../../supabase/functions/_shared/crossfade/flags/snapshot.ts";
import { flagsAnswer, snapshotOf } from "./builders.ts";
import { readVectors } from "./vectors.ts";

const flags = readVectors("flag_evaluation");
const explanations = readVectors("flag_explanation");
const choices = readVectors("backend_choice");

for (const { name, input, expect } of flags.cases) {
  const snapshot = snapshotOf(input, flags.defaults.kill_switch ?? {});
  const context = input.context as Context;
  const options = { stale: input.stale === true };

  Deno.test(`evaluate() ${name}`, () => {
    const { metadata, ...details } = evaluate(snapshot, String(input.flag), context, options);
    const { flags_version, ...rest } = metadata;
    assert.equal(flags_version, 7);
    assert.deepEqual({ ...details, metadata: rest }, expect);
  });

  Deno.test(`isEnabled() ${name}`, () => {
    assert.equal(isEnabled(snapshot, String(input.flag), context, options), expect.value);
  });
}

for (const { name, input, expect } of choices.cases) {
  Deno.test(`chooseBackend() ${name}`, () => {
    const snapshot = snapshotOf(input, choices.defaults.kill_switch ?? {});
    const options = { stale: input.stale === true };
    const answer = chooseBackend(snapshot, "chat_messages", input.context as Context, options);
    // Whether V1 may be an archive by now is asked at the edge only.
    const { flags_version, unsure: _, ...rest } = answer;
    assert.equal(flags_version, 7);
    assert.deepEqual(rest, expect);
  });
}

Deno.test("chooseBackend() serves a pair it does not know from backend 1", () => {
  const snapshot = snapshotOf({}, {});
  const { backend, reason, rule } = chooseBackend(snapshot, "orders", { user_id: "user-1" });
  assert.deepEqual({ backend, reason, rule }, { backend: 1, reason: "STATIC", rule: "stage" });
});

for (const { name, input, expect } of explanations.cases) {
  Deno.test(`explain() ${name}`, () => {
    const snapshot = snapshotOf(input, explanations.defaults.kill_switch ?? {});
    const { steps, ...rest } = explain(snapshot, String(input.flag), input.context as Context);
    assert.deepEqual(steps, expect.steps);
    assert.deepEqual(rest, evaluate(snapshot, String(input.flag), input.context as Context));
  });
}

for (const { name, input } of flags.cases) {
  Deno.test(`explain() decides as evaluate() does: ${name}`, () => {
    const snapshot = snapshotOf(input, flags.defaults.kill_switch ?? {});
    const context = input.context as Context;
    const { steps, metadata, value } = explain(snapshot, String(input.flag), context);
    const decisive = steps.filter((step) => step.decides);
    if (metadata.rule === "unknown") return assert.deepEqual(steps, []);
    assert.deepEqual(decisive.map((step) => [step.rule, step.value]), [[metadata.rule, value]]);
  });
}

const DAY_S = 86_400;

/** Where V1 stands in doubt, by what is known: stage, percentage, age of the copy, bake time. */
const DOUBTS: readonly [string, Row, Partial<Options> & { bakeS?: number }, boolean][] = [
  ["a young copy", { stage: "live" }, {}, false],
  ["a young copy of rampdown with a fence", { stage: "rampdown" }, {}, false],
  ["an old copy younger than the bake time", { stage: "live" }, { ageMs: () => 70_000 }, false],
  ["an old copy as old as the bake time", { stage: "off" }, { ageMs: () => DAY_S * 1_000 }, true],
  ["an old copy without a bake time", { stage: "dualwrite" }, { bakeS: 0 }, true],
  ["an old copy of rampdown", { stage: "rampdown" }, { ageMs: () => 1 }, true],
  [
    "an old copy of live for everybody",
    { stage: "live", percentage: 100 },
    { ageMs: () => 1 },
    true,
  ],
  ["an old copy without the pair", { name: "other" }, { ageMs: () => 1 }, false],
];

for (const [name, { percentage = 5, ...pair }, { bakeS = DAY_S, ageMs }, unsure] of DOUBTS) {
  Deno.test(`V1 ${unsure ? "may be an archive" : "is none"}: ${name}`, () => {
    const answer = flagsAnswer(1, {
      pairs: [{ name: "chat_messages", cohort: { percentage }, ...pair }],
      kill_switches: [{ name: "emergency_rollback", fences: true, overrides_all: true }],
      settings: { stage_bake_s: bakeS },
    });
    const options = { stale: ageMs !== undefined || bakeS === 0, ageMs: ageMs ?? (() => 1) };
    const choice = chooseBackend(parseSnapshot(answer), "chat_messages", {}, options);
    assert.deepEqual([choice.backend, choice.unsure === true], [1, unsure]);
  });
}

Deno.test("without the database and without a bundle V1 may be an archive", () => {
  for (const environment of [{}, { KILL_SWITCH_EMERGENCY_ROLLBACK: "true" }]) {
    const { snapshot } = readBootstrap(environment);
    assert.equal(chooseBackend(snapshot, "orders", {}).unsure, true);
  }
});
