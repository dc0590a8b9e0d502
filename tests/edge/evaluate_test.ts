import assert from "node:assert/strict";
import { chooseBackend } from "../../supabase/functions/_shared/crossfade/flags/choose_backend.ts";
import {
  type Context,
  evaluate,
  isEnabled,
} from "../../supabase/functions/_shared/crossfade/flags/evaluate.ts";
import { explain } from "../../supabase/functions/_shared/crossfade/flags/explain.ts";
import { snapshotOf } from "./builders.ts";
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
    const { flags_version, ...rest } = answer;
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
