import assert from "node:assert/strict";
import {
  ContextCompatibility,
  DualWriteService,
  MigrationHelper,
  RollbackManager,
} from "../../supabase/functions/chat/adapters/compatibility_layer.ts";
import {
  PROCEDURES,
  readThresholds,
  suggestLevel,
} from "../../supabase/functions/chat/adapters/rollback_procedures.ts";
import { EDGE_RPCS, LEVELS } from "../../supabase/functions/_shared/crossfade/contract.ts";
import { converter } from "./fake_store.ts";

type Parameters = Readonly<Record<string, unknown>>;

/** Answers each function with a fixed object, and checks the parameters' names. */
function rpcOf(answers: Readonly<Record<string, unknown>>) {
  const calls: [string, Parameters][] = [];
  return {
    calls,
    call(name: string, parameters: Parameters): Promise<unknown> {
      const known: readonly string[] = EDGE_RPCS[name as keyof typeof EDGE_RPCS] ?? [];
      const unknown = Object.keys(parameters).filter((key) => !known.includes(key));
      assert.deepEqual(unknown, [], `parameters of ${name}`);
      calls.push([name, parameters]);
      return Promise.resolve(answers[name]);
    },
  };
}

Deno.test("DualWriteService tells the mirror's state", async () => {
  const row = {
    name: "chat_messages",
    mirror: "both",
    stage: "live",
    failure_policy: "record",
    open_failures: 2,
    open_mismatches: 1,
    drift_count: 3,
  };
  const rpc = rpcOf({ pair_status: { pairs: [{ name: "orders" }, row], flags_version: 1 } });
  assert.deepEqual(await new DualWriteService(rpc, "chat_messages").state(), {
    mirrored: true,
    stage: "live",
    failurePolicy: "record",
    openFailures: 2,
    openMismatches: 1,
    drift: 3,
  });
});

Deno.test("DualWriteService does not take a missing pair for a healthy one", async () => {
  const service = new DualWriteService(rpcOf({ pair_status: { pairs: [] } }), "chat_messages");
  await assert.rejects(service.state(), TypeError);
});

Deno.test("DualWriteService repairs through the database", async () => {
  const rpc = rpcOf({ repair: { repaired: 4, remaining: 1, failed: 0 } });
  const result = await new DualWriteService(rpc, "chat_messages").repair("drill", 50);
  assert.deepEqual(result, { repaired: 4, remaining: 1, failed: 0 });
  assert.deepEqual(rpc.calls, [[
    "repair",
    { pair: "chat_messages", max_rows: 50, reason: "drill" },
  ]]);
});

const BEHIND = { name: "chat_messages", failure_policy: "record", open_failures: 5 };

Deno.test("DualWriteService settles failed writes as the pair's policy says", async () => {
  const clean = rpcOf({ pair_status: { pairs: [{ ...BEHIND, open_failures: 0 }] } });
  const nothing = await new DualWriteService(clean, "chat_messages").settle("drill");
  assert.deepEqual([nothing.settled, clean.calls.length], [true, 1]);
  for (const failure_policy of ["record", "raise"] as const) {
    const answers = { pair_status: { pairs: [{ ...BEHIND, failure_policy }] } };
    const left = rpcOf({ ...answers, repair: { repaired: 4, remaining: 1, failed: 0 } });
    const result = await new DualWriteService(left, "chat_messages").settle("drill");
    assert.deepEqual([result.failurePolicy, result.settled], [failure_policy, false]);
    const done = rpcOf({ ...answers, repair: { repaired: 5, remaining: 0, failed: 0 } });
    assert.equal((await new DualWriteService(done, "chat_messages").settle("drill")).settled, true);
  }
});

Deno.test("MigrationHelper tells how far a run is, and stops it", async () => {
  const run = {
    id: 12,
    state: "running",
    reason: null,
    rows_done: 300,
    rows_total: 1000,
    started_at: "2026-05-01T10:00:00+00:00",
    progress_at: "2026-05-01T10:00:10+00:00",
  };
  const rpc = rpcOf({ run_status: { run }, control_run: { run } });
  const helper = new MigrationHelper(rpc, "chat_messages");
  const { doneRate, rowsPerS, secondsLeft } = await helper.progress(12);
  assert.deepEqual([doneRate, rowsPerS, secondsLeft], [0.3, 30, (1000 - 300) / 30]);
  await helper.control(12, "pause", "drill");
  assert.deepEqual(rpc.calls.at(-1), ["control_run", {
    run: 12,
    action: "pause",
    reason: "drill",
  }]);
  const of = async (changes: Record<string, unknown>) => {
    const answer = { run_status: { run: { ...run, ...changes } } };
    return await new MigrationHelper(rpcOf(answer), "chat_messages").progress(12);
  };
  // An estimate that was too small, a run that has not begun, one that is done.
  assert.equal((await of({ rows_done: 1500 })).doneRate, 1);
  const fresh = await of({ rows_done: null, progress_at: null });
  assert.deepEqual([fresh.doneRate, fresh.rowsPerS, fresh.secondsLeft], [0, 0, null]);
  const done = await of({ state: "finished", rows_done: 900 });
  assert.deepEqual([done.doneRate, done.rowsTotal, done.secondsLeft], [1, 900, 0]);
});

Deno.test("MigrationHelper joins the run and copies one batch", async () => {
  const rpc = rpcOf({
    start_backfill: { run: { id: 12 }, already: true },
    backfill_batch: { run: { id: 12 }, rows_written: 300, state: "running" },
  });
  const progress = await new MigrationHelper(rpc, "chat_messages").migrateBatch(200);
  assert.deepEqual(progress, { run: 12, state: "running", rowsWritten: 300 });
  assert.deepEqual(rpc.calls[1], ["backfill_batch", { run: 12, target_ms: 200 }]);
});

Deno.test("MigrationHelper lists broken laws", async () => {
  const violations = [{ key: { id: "a" }, law: 1, columns: ["content"], error: null }];
  const helper = new MigrationHelper(rpcOf({ check_conversion: { violations } }), "chat_messages");
  const expected = [{ law: 1, key: { id: "a" }, columns: ["content"] }];
  assert.deepEqual(await helper.check(1), expected);
});

Deno.test("RollbackManager plans without carrying out, and tells the new version after doing", async () => {
  const step = { action: "set_stage", object: "chat_messages", before: "live", after: "shadow" };
  const rpc = rpcOf({ rollback: { plan: [step], flags_version: 9, snapshot: 3 } });
  const versions: number[] = [];
  const manager = new RollbackManager(rpc, (version) => versions.push(version));
  const request = { level: "COMPLETE", scope: "chat_messages", reason: "drill" } as const;
  assert.deepEqual((await manager.plan(request)).plan, [step]);
  assert.deepEqual(versions, []);
  assert.equal((await manager.execute(request)).snapshot, 3);
  assert.deepEqual(versions, [9]);
  assert.deepEqual(rpc.calls.map(([, parameters]) => parameters.dry_run), [true, false]);
});

Deno.test("RollbackManager undoes a rollback", async () => {
  const rpc = rpcOf({ restore_snapshot: { flags_version: 11 } });
  const versions: number[] = [];
  await new RollbackManager(rpc, (version) => versions.push(version)).undo(3, "drill");
  assert.deepEqual(rpc.calls, [["restore_snapshot", { id: 3, reason: "drill" }]]);
  assert.deepEqual(versions, [11]);
});

Deno.test("an answer that is no object is an error, not an empty success", async () => {
  const manager = new RollbackManager(rpcOf({ rollback: null }));
  await assert.rejects(
    manager.execute({ level: "PARTIAL", scope: "chat_messages", reason: "drill" }),
    TypeError,
  );
});

Deno.test("ContextCompatibility fills what is missing and names it", () => {
  const context = new ContextCompatibility(converter);
  const { context: filled, missing } = context.fill({
    session_id: "c1",
    history: [{ role: "user", content: "a" }],
    memory: "not an object",
    tenant: "t",
  });
  assert.deepEqual(filled, {
    chat_id: "c1",
    user_id: null,
    agent_id: null,
    messages: [{ role: "user", content: "a" }],
    state: {},
    memory: {},
    tenant: "t",
  });
  assert.deepEqual(missing, ["user_id", "agent_id", "state", "memory"]);
  for (const nothing of [undefined, null, "a", [], 5]) {
    assert.equal(context.fill(nothing).missing.length, 6);
  }
});

Deno.test("ContextCompatibility joins an old and a new context", () => {
  const context = new ContextCompatibility(converter);
  const at = (second: number) => `2026-05-01T10:00:0${second}.000001+00:00`;
  const shown = { id: "m1", role: "assistant", content: "one", metadata: {}, created_at: at(1) };
  const reasoning = { type: "reasoning", text: "hm", signature: "x" };
  const stored = {
    ...converter.toV2(shown),
    content: [reasoning, { type: "text", text: "one" }],
  };
  const old = {
    thread_id: "c1",
    user_id: "u1",
    messages: [shown, { id: "m2", role: "user", content: "two", created_at: at(2) }],
    variables: { step: 1, kept: true },
    memory: { name: "Ada", city: "Oslo" },
    tenant: "old",
  };
  const current = {
    chat_id: "c1",
    agent_id: "a1",
    messages: [stored, { id: "m3", role: "user", content: [], created_at: at(3) }],
    state: { step: 2 },
    memory: { city: null },
    tenant: "new",
  };
  const frozen = JSON.stringify([old, current]);
  const { context: merged, missing } = context.merge(old, current);
  assert.deepEqual([merged.chat_id, merged.user_id, merged.agent_id], ["c1", "u1", "a1"]);
  assert.deepEqual(merged.messages.map(({ id }) => id), ["m1", "m2", "m3"]);
  // What only the new side holds is there, once.
  assert.deepEqual(merged.messages[0], stored);
  assert.deepEqual(merged.state, { step: 2, kept: true });
  assert.deepEqual(merged.memory, { name: "Ada", city: null });
  assert.deepEqual([merged.tenant, missing], ["new", []]);
  assert.equal(JSON.stringify([old, current]), frozen);
  assert.deepEqual(context.merge(old, {}, { to: 1 }).context.messages, [
    converter.toV1(converter.toV2(shown)),
    old.messages[1],
  ]);
});

Deno.test("rollback procedures cover every level", () => {
  assert.deepEqual(Object.keys(PROCEDURES), [...LEVELS]);
});

Deno.test("a level is suggested from the database's numbers", () => {
  const thresholds = readThresholds(new Map([["r1_error_rate", 0.2], ["r1k_streak", 3]]));
  assert.equal(thresholds.completeErrorRate, 0.2);
  assert.equal(thresholds.minimumRequests, 20);
  const seen = (requests: number, errors: number, streak = 0) =>
    suggestLevel({ requests, errors, streak }, thresholds);
  assert.equal(seen(100, 0), undefined);
  assert.equal(seen(19, 19), undefined);
  assert.equal(seen(100, 5), "PARTIAL");
  assert.equal(seen(100, 20), "COMPLETE");
  assert.equal(seen(3, 3, 3), "EMERGENCY");
});
