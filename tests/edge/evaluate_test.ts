import assert from "node:assert/strict";
import {
  chooseBackend,
  type Context,
  evaluate,
  explain,
  isEnabled,
} from "../../supabase/functions/_shared/crossfade/evaluate.ts";
import { snapshotOf } from "./builders.ts";
import { readVectors } from "./vectors.ts";

const flags = readVectors("flag_evaluation");
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

Deno.test("explain() lists every rule looked at and ends with the one that decided", () => {
  const snapshot = snapshotOf({ flags: [{ name: "f", allow_user_ids: ["user-1"] }] }, {});
  const { steps } = explain(snapshot, "f", { user_id: "user-1" });
  assert.deepEqual(steps, [
    { rule: "kill_switch", matched: false },
    { rule: "disabled", matched: false },
    { rule: "prerequisite", matched: false },
    { rule: "deny", matched: false },
    { rule: "allow", matched: true },
  ]);
});
