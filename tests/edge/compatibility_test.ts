import assert from "node:assert/strict";
import {
  ContextCompatibility,
  DualWriteService,
  MigrationHelper,
  RollbackManager,
  ToolCompatibilityWrapper,
} from "../../supabase/functions/chat/adapters/compatibility_layer.ts";
import {
  escalation,
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
    open_failures: 2,
    open_mismatches: 1,
    drift_count: 3,
  };
  const rpc = rpcOf({ pair_status: { pairs: [{ name: "orders" }, row], flags_version: 1 } });
  assert.deepEqual(await new DualWriteService(rpc, "chat_messages").state(), {
    mirrored: true,
    stage: "live",
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

Deno.test("an answer that is no object is an error, not an empty success", async () => {
  const manager = new RollbackManager(rpcOf({ rollback: null }));
  await assert.rejects(
    manager.execute({ level: "PARTIAL", scope: "chat_messages", reason: "drill" }),
    TypeError,
  );
});

Deno.test("ContextCompatibility lets an old handler work on a V2 conversation", async () => {
  const context = new ContextCompatibility(converter);
  const wrapped = context.wrap((history) =>
    Promise.resolve({ role: "assistant", content: `${history.length}: ${history[0]?.content}` })
  );
  const answer = await wrapped([{ role: "user", content: [{ type: "text", text: "hello" }] }]);
  assert.deepEqual(answer.content, [{ type: "text", text: "1: hello" }]);
});

const TOOLS = new ToolCompatibilityWrapper([{
  name: "add",
  description: "Adds",
  input_schema: {
    type: "object",
    properties: { a: { type: "number" }, b: { type: "number" } },
    required: ["a"],
  },
  run: ({ a, b = 0 }) =>
    typeof a === "number" ? Promise.resolve(a + Number(b)) : Promise.reject(new Error("no number")),
}]);

Deno.test("ToolCompatibilityWrapper takes arguments as text and as an object", async () => {
  for (const given of [`{"a":1,"b":2}`, { a: 1, b: 2 }]) {
    const result = await TOOLS.call({ name: "add", arguments: given });
    assert.deepEqual(result, { name: "add", content: "3", isError: false });
  }
});

Deno.test("ToolCompatibilityWrapper never throws", async () => {
  const calls = [
    { name: "nowhere", arguments: "{}" },
    { name: "add", arguments: "{oops" },
    { name: "add", arguments: "[1]" },
    { name: "add", arguments: "" },
  ];
  for (const call of calls) assert.equal((await TOOLS.call(call)).isError, true, call.arguments);
});

Deno.test("ToolCompatibilityWrapper describes parameters the old way", () => {
  assert.deepEqual(TOOLS.describe(), [{
    name: "add",
    description: "Adds",
    parameters: {
      a: { type: "number", required: true },
      b: { type: "number", required: false },
    },
  }]);
});

Deno.test("rollback procedures cover every level", () => {
  assert.deepEqual(Object.keys(PROCEDURES), [...LEVELS]);
  assert.deepEqual(escalation("COMPLETE"), ["COMPLETE", "EMERGENCY"]);
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
