/** Conversations handed out and taken back, and what operators ask for at the function's own addresses. */

import assert from "node:assert/strict";
import { StoreError } from "../../supabase/functions/_shared/crossfade/http/store_error.ts";
import { CHAT, makeChat, newMessage, tell, USER } from "./chat_fixture.ts";

const CONTEXT = `/chats/${CHAT}/context`;
const OTHER = "5f6d8c1a-2b3c-4d5e-8f90-a1b2c3d4e5f6";

for (const stage of ["dualwrite", "live"]) {
  for (const version of [1, 2]) {
    Deno.test(`stage ${stage}: a V${version} client gets its conversation whole`, async () => {
      const chat = makeChat({ stage });
      const said = await tell(chat, { path: `/v${version}/messages`, body: newMessage(version) });
      const { status, body } = await tell(chat, { path: `/v${version}${CONTEXT}` });
      assert.equal(status, 200);
      const messages = body.messages as Record<string, unknown>[];
      assert.deepEqual(messages.map(({ id, content }) => ({ id, content })), [
        { id: said.body.id, content: said.body.content },
      ]);
      assert.deepEqual([body.chat_id, body.user_id, body.state, body.memory], [CHAT, USER, {}, {}]);
    });

    Deno.test(`stage ${stage}: what a V${version} client kept is joined once, in order`, async () => {
      const chat = makeChat({ stage });
      const { body: first } = await tell(chat, {
        path: "/v2/messages",
        body: newMessage(2, "stored"),
      });
      const kept = [
        { id: first.id, role: "user", content: "an older copy", metadata: {} },
        { id: OTHER, role: "user", content: "new, in V1" },
        { role: "assistant", content: [{ type: "text", text: "new, in V2" }] },
      ];
      const join = { path: `/v${version}${CONTEXT}`, body: { history: kept, variables: { a: 1 } } };
      const { status, body } = await tell(chat, join);
      assert.deepEqual([status, body.added], [200, 2]);
      const again = await tell(chat, join);
      assert.deepEqual([again.status, again.body.added], [200, 0]);
      const listed = await tell(chat, { path: `/v1/messages?chat_id=${CHAT}` });
      const contents = (listed.body.messages as { content: string }[]).map(({ content }) =>
        content
      );
      assert.deepEqual(contents.toSorted(), ["new, in V1", "new, in V2", "stored"]);
    });
  }
}

Deno.test("a message that is in no format is refused by its place, and nothing is stored", async () => {
  const chat = makeChat({ stage: "live" });
  for (
    const message of [5, {}, { role: "robot", content: "x" }, {
      id: "x",
      role: "user",
      content: "",
    }]
  ) {
    const body = { messages: [{ role: "user", content: "good" }, message] };
    const { status } = await tell(chat, { path: CONTEXT, body });
    assert.equal(status, 422, JSON.stringify(message));
  }
  assert.deepEqual([chat.store.tables[1].size, chat.store.tables[2].size], [0, 0]);
});

Deno.test("nothing in the reserved key of a client's message is stored", async () => {
  const chat = makeChat({ stage: "off" });
  const metadata = { _crossfade: { role: "system" }, a: 1 };
  const { body } = await tell(chat, { path: "/messages", body: { ...newMessage(1), metadata } });
  assert.deepEqual(body.metadata, { a: 1 });
  const edited = await tell(chat, {
    method: "PATCH",
    path: `/messages/${body.id}`,
    body: { metadata },
  });
  assert.deepEqual(edited.body.metadata, { a: 1 });
});

// Operators -------------------------------------------------------------------------------------

const PAIR = { name: "chat_messages", mirror: "both", stage: "live", failure_policy: "record" };
const ANSWERS: Readonly<Record<string, unknown>> = {
  pair_status: { pairs: [{ ...PAIR, open_failures: 2 }] },
  run_status: { run: { id: 7, state: "running", rows_done: 5, rows_total: 10 } },
  start_backfill: { run: { id: 7 } },
  backfill_batch: { state: "running", rows_written: 5 },
  repair: { repaired: 2, remaining: 0, failed: 0 },
  check_conversion: { violations: [{ law: 1, key: "a", columns: ["content"] }] },
  control_run: {},
  restore_snapshot: { flags_version: 9 },
};

function operated() {
  const called: [string, unknown][] = [];
  const openOperator = () => ({
    call: (name: string, parameters: unknown) => {
      called.push([name, parameters]);
      return Promise.resolve(ANSWERS[name]);
    },
  });
  return { called, chat: makeChat({ stage: "live" }, {}, { openOperator }) };
}

Deno.test("an operator sees dual write and a run, and moves it", async () => {
  const { chat, called } = operated();
  const told = await tell(chat, { path: "/migration?run=7", user: null });
  assert.equal(told.status, 200);
  assert.deepEqual((told.body.dual_write as Record<string, unknown>).open_failures, 2);
  assert.deepEqual((told.body.run as Record<string, unknown>).done_rate, 0.5);
  const post = async (body: unknown, path = "/migration") =>
    (await tell(chat, { path, body, user: null })).body;
  assert.deepEqual(await post({ action: "copy", target_ms: 100 }), {
    run: 7,
    state: "running",
    rows_written: 5,
  });
  const settled = await post({ action: "settle", reason: "r", max_rows: 9 });
  assert.deepEqual([settled.settled, settled.repaired], [true, 2]);
  assert.deepEqual(await post({ action: "check", side: 1 }), {
    violations: [{ law: 1, key: "a", columns: ["content"] }],
  });
  await post({ action: "pause", run: 7, reason: "r" });
  await post({ snapshot: 3, reason: "r" }, "/rollback/undo");
  assert.deepEqual(called.slice(-2), [
    ["control_run", { run: 7, action: "pause", reason: "r" }],
    ["restore_snapshot", { id: 3, reason: "r" }],
  ]);
  assert.deepEqual(chat.events, []);
});

Deno.test("a wrong call of an operator names the field", async () => {
  const { chat, called } = operated();
  const wrong: [string, unknown, string][] = [
    ["/migration", {}, "action"],
    ["/migration", { action: "pause", reason: "r" }, "run"],
    ["/migration", { action: "check", side: 3 }, "side"],
    ["/migration", { action: "settle" }, "reason"],
    ["/migration", { action: "copy", target_ms: 0 }, "target_ms"],
    ["/rollback/undo", { snapshot: "x", reason: "r" }, "snapshot"],
  ];
  for (const [path, body, field] of wrong) {
    const told = await tell(chat, { path, body, user: null });
    assert.equal(told.status, 422, JSON.stringify(body));
    assert.match(String(told.body.detail), new RegExp(`"${field}"`));
  }
  assert.deepEqual(called, []);
});

Deno.test("whom the database does not count as an operator is told so", async () => {
  const refusal = new StoreError("no", { refused: true, status: 403, code: "42501" });
  const openOperator = () => ({ call: () => Promise.reject(refusal) });
  const chat = makeChat({ stage: "live" }, {}, { openOperator });
  for (const body of [undefined, { action: "copy" }]) {
    const path = "/migration";
    const { status } = await tell(chat, { path, ...(body === undefined ? {} : { body }) });
    assert.equal(status, 403);
  }
});
