import assert from "node:assert/strict";
import { Problem } from "../../supabase/functions/_shared/crossfade/http/errors.ts";
import { callerHash } from "../../supabase/functions/_shared/crossfade/serve/caller_hash.ts";
import type { StoreError } from "../../supabase/functions/_shared/crossfade/http/store_error.ts";
import { CHAT, type Chat, makeChat, newMessage, tell, USER } from "./chat_fixture.ts";
import { settle } from "./fake_clock.ts";
import { answering } from "./model_fixture.ts";
import { archived, converter, fenced, noAnswer, refused, timedOut } from "./fake_store.ts";

const LIVE = { stage: "live" };
const OTHER = "5f6d8c1a-2b3c-4d5e-8f90-a1b2c3d4e5f6";

function outcomes(chat: Chat): [number, string][] {
  return chat.events.map((event) => [event.backend_version, event.outcome]);
}

function rows(chat: Chat): [number, number] {
  return [chat.store.tables[1].size, chat.store.tables[2].size];
}

for (const stage of ["off", "dualwrite", "shadow", "live", "rampdown", "complete", "retired"]) {
  const backend = ["live", "rampdown", "complete", "retired"].includes(stage) ? "2" : "1";
  for (const wire of [1, 2]) {
    Deno.test(`stage ${stage} serves V${wire} clients from backend ${backend}`, async () => {
      const chat = makeChat({ stage });
      const path = `/v${wire}/messages`;
      const made = await tell(chat, { path, body: newMessage(wire) });
      assert.equal(made.status, 201);
      const got = await tell(chat, { path: `${path}/${made.body.id}` });
      const edited = await tell(chat, {
        method: "PATCH",
        path: `${path}/${made.body.id}`,
        body: { content: newMessage(wire, "changed").content },
      });
      const listed = await tell(chat, { path: `${path}?chat_id=${CHAT}` });
      const removed = await tell(chat, { method: "DELETE", path: `${path}/${made.body.id}` });
      assert.deepEqual(got.body.content, newMessage(wire).content);
      assert.deepEqual(edited.body.content, newMessage(wire, "changed").content);
      assert.deepEqual(listed.body.messages, [edited.body]);
      assert.equal(removed.status, 204);
      for (const { headers } of [made, got, edited, listed, removed]) {
        assert.equal(headers.get("x-crossfade-backend"), backend);
        assert.equal(headers.get("x-api-version"), String(wire));
      }
      assert.ok(chat.store.calls.every((call) => call.endsWith(backend)));
      assert.deepEqual(rows(chat), [0, 0]);
    });
  }
}

Deno.test("a create and a list are one call to the store each", async () => {
  for (const wire of [1, 2]) {
    const chat = makeChat(LIVE);
    await tell(chat, { path: `/v${wire}/messages`, body: newMessage(wire) });
    await tell(chat, { path: `/v${wire}/messages?chat_id=${CHAT}` });
    assert.deepEqual(chat.store.calls, ["insert 2", "list 2"]);
  }
});

Deno.test("the owner of a row is always the caller", async () => {
  const chat = makeChat(LIVE);
  const body = { ...newMessage(1), user_id: OTHER };
  const { body: made } = await tell(chat, { path: "/messages", body });
  assert.equal(chat.store.tables[2].get(String(made.id))?.user_id, USER);
});

Deno.test("V1 answers do not show the owner", async () => {
  for (const stage of ["off", "live"]) {
    const chat = makeChat({ stage });
    const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
    assert.ok(!("user_id" in body));
  }
});

Deno.test("timestamps pass through as text", async () => {
  const { body } = await tell(makeChat(LIVE), { path: "/messages", body: newMessage(1) });
  assert.equal(body.created_at, "2026-05-01T10:00:00.123456+00:00");
});

// Falling back ---------------------------------------------------------------------------------

Deno.test("a fenced create is served from backend 1 and is no failure of backend 2", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, fenced());
  const { status, headers, backend } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.deepEqual([status, backend], [201, "1"]);
  assert.equal(headers.get("x-crossfade-reason"), "DISABLED");
  assert.deepEqual(outcomes(chat), [[1, "ok"]]);
  assert.deepEqual(rows(chat), [1, 1]);
});

Deno.test("a fenced edit and delete are served from backend 1", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  chat.store.fail("update", 2, fenced());
  chat.store.fail("remove", 2, fenced());
  const path = `/messages/${body.id}`;
  const edited = await tell(chat, { method: "PATCH", path, body: { content: "changed" } });
  assert.deepEqual([edited.status, edited.body.content, edited.backend], [200, "changed", "1"]);
  const removed = await tell(chat, { method: "DELETE", path });
  assert.deepEqual([removed.status, removed.backend], [204, "1"]);
  assert.deepEqual(rows(chat), [0, 0]);
});

Deno.test("a read that gets no answer is served from backend 1", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  chat.store.fail("get", 2, noAnswer());
  chat.store.fail("list", 2, noAnswer());
  const got = await tell(chat, { path: `/messages/${body.id}` });
  const listed = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  assert.deepEqual([got.status, got.backend], [200, "1"]);
  assert.deepEqual([listed.status, listed.backend], [200, "1"]);
  assert.deepEqual(outcomes(chat).slice(1), [[2, "fallback"], [2, "fallback"]]);
});

Deno.test("a create that takes too long is not tried a second time beside itself", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, timedOut());
  const { status, body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.deepEqual([status, body.code], [503, "UPSTREAM_UNAVAILABLE"]);
  assert.deepEqual(chat.store.calls, ["insert 2"]);
});

Deno.test("a read that takes too long is served from backend 1", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("list", 2, timedOut());
  const listed = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  assert.deepEqual([listed.status, listed.backend], [200, "1"]);
});

Deno.test("a create whose answer was lost is not made twice", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, noAnswer(), true);
  const { status, body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.equal(status, 201);
  assert.equal(body.content, "hello");
  assert.deepEqual(rows(chat), [1, 1]);
  assert.deepEqual(chat.store.calls, ["insert 2", "insert 1", "get 1"]);
});

Deno.test("an edit whose answer was lost is not repeated on backend 1", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/v2/messages", body: newMessage(2) });
  chat.store.fail("update", 2, noAnswer(), true);
  const edit = { method: "PATCH", path: `/v2/messages/${body.id}`, body: { status: "error" } };
  const { status, headers } = await tell(chat, edit);
  assert.equal(status, 503);
  assert.equal(headers.get("retry-after"), "1");
  assert.ok(!chat.store.calls.includes("update 1"));
  assert.deepEqual(outcomes(chat).at(-1), [2, "error"]);
});

Deno.test("an edit that was written is not repeated when its answer cannot be converted", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/v2/messages", body: newMessage(2) });
  let faults = 1;
  const broken = {
    toV2: converter.toV2,
    toV1: (message: Readonly<Record<string, unknown>>) => {
      if (faults-- > 0) throw new TypeError("mine");
      return converter.toV1(message);
    },
  };
  const other = makeChat(LIVE, {}, { converter: broken, openStore: () => chat.store });
  const edit = { method: "PATCH", path: `/messages/${body.id}`, body: { status: "error" } };
  const headers = { "content-type": "application/json;version=2" };
  assert.equal((await tell(other, { ...edit, headers })).status, 422);
  assert.equal(chat.store.tables[2].get(String(body.id))?.status, "error");
  assert.ok(!chat.store.calls.includes("update 1"));
});

Deno.test("a converted message that V2 refuses is served from backend 1", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, refused("23514"));
  const { status, backend } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.deepEqual([status, backend], [201, "1"]);
});

Deno.test("a V2 message that V2 refuses is the client's fault", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, refused("23514"));
  const { status, body } = await tell(chat, { path: "/v2/messages", body: newMessage(2) });
  assert.deepEqual([status, body.code], [422, "INVALID_MESSAGE"]);
  assert.deepEqual(chat.store.calls, ["insert 2"]);
  assert.deepEqual(outcomes(chat), [[2, "client_error"]]);
});

const BROKEN = {
  toV2: () => {
    throw new TypeError("mine");
  },
  toV1: (message: Readonly<Record<string, unknown>>) => message,
};

Deno.test("a converter that throws is served from backend 1", async () => {
  const chat = makeChat(LIVE, {}, { converter: BROKEN });
  const { status, backend } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.deepEqual([status, backend], [201, "1"]);
});

// Whose failure it is ---------------------------------------------------------------------------

Deno.test("a failure says whose it was by a keyed hash, and a success does not", async () => {
  const chat = makeChat(LIVE, {}, { converter: BROKEN, hashCaller: callerHash("key") });
  const say = (user: string) => tell(chat, { path: "/messages", body: newMessage(1), user });
  for (const user of [USER, OTHER, USER]) await say(user);
  assert.deepEqual(outcomes(chat), Array(3).fill([2, "fallback"]));
  const [first, second, third] = chat.events.map(({ caller }) => caller);
  assert.deepEqual([first, second], [USER, OTHER].map(callerHash("key")));
  assert.ok(first === third && first !== second && !JSON.stringify(chat.events).includes(USER));
  assert.notEqual(callerHash("other key")(USER), first);
  await tell(chat, { path: "/v2/messages", body: newMessage(2) });
  assert.deepEqual(outcomes(chat).at(-1), [2, "ok"]);
  assert.ok(!("caller" in (chat.events.at(-1) ?? {})));
});

Deno.test("callerHash() spreads callers over 4096 numbers", () => {
  const hash = callerHash("key");
  const found = new Set(Array.from({ length: 40_000 }, (_, n) => hash(`user ${n}`)));
  assert.ok(found.size > 4_000 && Math.max(...found) <= 4_095 && Math.min(...found) >= 0);
});

/** What the database says of values that a caller chose. */
const HOSTILE = ["22P02", "22003", "22021", "23502", "23514", "54000", "54001", "PGRST102"];

for (const code of HOSTILE) {
  Deno.test(`values that V2 refuses with ${code} are the client's fault, or named as its own`, async () => {
    const chat = makeChat(LIVE);
    chat.store.fail("insert", 2, refused(code));
    for (let n = 0; n < 20; n++) {
      const { status } = await tell(chat, { path: "/messages", body: newMessage(1) });
      assert.equal(status, 201);
      const own = await tell(chat, { path: "/v2/messages", body: newMessage(2) });
      assert.deepEqual([own.status, own.body.code], [422, "INVALID_MESSAGE"]);
    }
    assert.deepEqual(
      new Set(outcomes(chat).map(String)),
      new Set(["2,fallback", "2,client_error"]),
    );
    const callers = chat.events.flatMap(({ caller }) => caller ?? []);
    assert.deepEqual([callers.length, new Set(callers).size], [20, 1]);
  });
}

Deno.test("two callers of a backend that refuses everything count at once", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, refused("42501", 403));
  for (const user of [USER, OTHER]) {
    await tell(chat, { path: "/messages", body: newMessage(1), user });
  }
  assert.deepEqual(outcomes(chat), [[2, "fallback"], [2, "fallback"]]);
});

Deno.test("a stored row that cannot be shown is counted with its reader, also in a list", async () => {
  const broken = {
    toV2: converter.toV2,
    toV1: () => {
      throw new TypeError("mine");
    },
  };
  const chat = makeChat({ stage: "complete" }, {}, { converter: broken });
  chat.store.mirrored = false;
  const { body } = await tell(chat, { path: "/v2/messages", body: newMessage(2) });
  for (const path of [`/messages/${body.id}`, `/messages?chat_id=${CHAT}`]) {
    const told = await tell(chat, { path });
    assert.deepEqual([told.status, told.body.code], [422, "INVALID_MESSAGE"]);
  }
  assert.deepEqual(outcomes(chat).slice(1), [[2, "error"], [2, "error"]]);
});

Deno.test("a body too large or too deep is refused before anything is counted", async () => {
  const chat = makeChat(LIVE);
  let deep: unknown = 1;
  for (let n = 0; n < 70; n++) deep = [deep];
  const tooDeep = { ...newMessage(1), metadata: { deep } };
  const tooLarge = newMessage(1, "x".repeat(2 * 1024 * 1024));
  assert.equal((await tell(chat, { path: "/messages", body: tooDeep })).status, 400);
  assert.equal((await tell(chat, { path: "/messages", body: tooLarge })).status, 413);
  assert.deepEqual([chat.events, chat.store.calls], [[], []]);
});

// Knowing before answering ----------------------------------------------------------------------

const DELAYS = { "0.6 s": 600, "3 s": 3_000, "away": undefined, "nonsense": undefined };

for (const stage of ["off", "dualwrite", "shadow", "live", "rampdown", "complete", "retired"]) {
  for (const [name, delayMs] of Object.entries(DELAYS)) {
    const known = delayMs !== undefined;
    Deno.test(`a cold isolate in stage ${stage} whose flags take ${name} answers ${known ? 200 : 503}`, async () => {
      const chat = makeChat({ stage });
      if (known) chat.database.held = true;
      else if (name === "away") chat.database.failure = new Error("away");
      else chat.database.rows = { pairs: [{ name: "chat_messages", stage: "sideways" }] };
      const list = tell(chat, { path: `/messages?chat_id=${CHAT}` });
      if (known) {
        await settle();
        await chat.clock.advance(delayMs);
        chat.database.release();
      }
      const { status, headers, backend } = await list;
      const serves = ["live", "rampdown", "complete", "retired"].includes(stage) ? "2" : "1";
      if (known) return assert.deepEqual([status, backend], [200, serves]);
      assert.deepEqual([status, headers.get("retry-after")], [503, "1"]);
      assert.ok(chat.store.calls.length === 0, "nothing is read of a table that may be an archive");
    });
  }
}

Deno.test("while nothing is known a new message is offered to V1, and an archive sends it on", async () => {
  for (const isArchive of [false, true]) {
    const chat = makeChat(LIVE);
    chat.database.failure = new Error("away");
    if (isArchive) chat.store.fail("insert", 1, archived());
    const { status, backend } = await tell(chat, { path: "/messages", body: newMessage(1) });
    assert.deepEqual([status, backend], [201, isArchive ? "2" : "1"]);
    for (const method of ["PATCH", "DELETE"]) {
      const body = method === "PATCH" ? { body: { content: "x" } } : {};
      const told = await tell(chat, { method, path: `/messages/${OTHER}`, ...body });
      assert.equal(told.status, 503);
    }
    const reply = await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
    assert.equal(reply.status, 503);
  }
});

Deno.test("in stage rampdown a read does not fall back to what may be an archive", async () => {
  const chat = makeChat({ stage: "rampdown" });
  chat.store.fail("list", 2, noAnswer());
  const listed = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  assert.deepEqual([listed.status, chat.store.calls], [503, ["list 2"]]);
});

Deno.test("an invalid token is refused once and not tried on the other table", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, refused("PGRST301", 401));
  const { status, body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.deepEqual([status, body.code], [401, "UNAUTHORIZED"]);
  assert.deepEqual(chat.store.calls, ["insert 2"]);
});

Deno.test("a row that waits for repair in V2 is found in V1", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  chat.store.tables[2].clear();
  const { status, backend } = await tell(chat, { path: `/messages/${body.id}` });
  assert.deepEqual([status, backend], [200, "1"]);
  assert.deepEqual(outcomes(chat).at(-1), [2, "fallback"]);
});

Deno.test("a row that is nowhere is a 404 of the client, not a fallback", async () => {
  const chat = makeChat(LIVE);
  const { status, body } = await tell(chat, { path: `/messages/${OTHER}` });
  assert.deepEqual([status, body.code], [404, "NOT_FOUND"]);
  assert.deepEqual(outcomes(chat), [[2, "client_error"]]);
});

Deno.test("both backends failing is one error of backend 2", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("list", 2, noAnswer());
  chat.store.fail("list", 1, noAnswer());
  const { status } = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  assert.equal(status, 503);
  assert.deepEqual(outcomes(chat), [[2, "error"]]);
});

Deno.test("backend 1 never falls back to V2, except that V1 is an archive", async () => {
  const chat = makeChat({ stage: "dualwrite" });
  chat.store.fail("insert", 1, noAnswer());
  assert.equal((await tell(chat, { path: "/messages", body: newMessage(1) })).status, 503);
  assert.deepEqual(chat.store.calls, ["insert 1"]);
  chat.store.fail("insert", 1, archived());
  const { status, backend } = await tell(chat, { path: "/messages", body: newMessage(1) });
  assert.deepEqual([status, backend], [201, "2"]);
});

Deno.test("in stage complete nothing falls back to the archive", async () => {
  const chat = makeChat({ stage: "complete" });
  chat.store.fail("list", 2, noAnswer());
  const { status } = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  assert.equal(status, 503);
  assert.deepEqual(chat.store.calls, ["list 2"]);
});

Deno.test("a fallback makes the isolate read its flags again", async () => {
  const chat = makeChat(LIVE);
  chat.store.fail("insert", 2, fenced());
  await tell(chat, { path: "/messages", body: newMessage(1) });
  await settle();
  assert.equal(chat.database.reads.length, 1);
  await chat.clock.advance(1_000);
  await tell(chat, { path: "/messages", body: newMessage(1) });
  await settle();
  assert.equal(chat.database.reads.length, 2);
});

Deno.test("V2 clients are answered in V2 while an emergency serves them from backend 1", async () => {
  const kill = { name: "emergency_rollback", fences: true, overrides_all: true };
  const chat = makeChat(LIVE, { kill_switches: [kill] });
  const { status, body, headers, backend } = await tell(chat, {
    path: "/v2/messages",
    body: newMessage(2),
  });
  assert.deepEqual([status, backend, headers.get("x-api-version")], [201, "1", "2"]);
  assert.deepEqual(body.content, [{ type: "text", text: "hello" }]);
});

// Edits across formats -------------------------------------------------------------------------

const RICH = [{ type: "reasoning", text: "why", signature: "s" }, { type: "text", text: "hello" }];

Deno.test("an edit by a V1 client keeps the V2 parts of the message", async () => {
  for (const stage of ["shadow", "live"]) {
    const chat = makeChat({ stage: "live" });
    const { body } = await tell(chat, {
      path: "/v2/messages",
      body: { ...newMessage(2), content: RICH },
    });
    chat.database.version = 2;
    chat.database.rows = { pairs: [{ stage, cohort: { percentage: 100 } }] };
    await chat.clock.advance(1_000);
    chat.flags.noteVersion(2);
    await settle();
    const path = `/v1/messages/${body.id}`;
    await tell(chat, { method: "PATCH", path, body: { content: "changed" } });
    const after = chat.store.tables[2].get(String(body.id))?.content;
    assert.deepEqual(after, [RICH[0], { type: "text", text: "changed" }], stage);
  }
});

Deno.test("a V2 message that V1 cannot hold is written to V2 while the mirror runs", async () => {
  for (const stage of ["dualwrite", "shadow"]) {
    const chat = makeChat({ stage });
    const told = await tell(chat, {
      path: "/v2/messages",
      body: { ...newMessage(2), content: RICH },
    });
    assert.deepEqual([told.status, told.backend], [201, "2"], stage);
    assert.deepEqual(chat.store.tables[2].get(String(told.body.id))?.content, RICH);
    assert.equal(chat.store.tables[1].get(String(told.body.id))?.content, "hello");
  }
});

Deno.test("an edit that V1 cannot hold is written to V2 while the mirror runs", async () => {
  const chat = makeChat({ stage: "dualwrite" });
  const { body, backend } = await tell(chat, { path: "/v2/messages", body: newMessage(2) });
  assert.equal(backend, "1");
  const path = `/v2/messages/${body.id}`;
  const plain = await tell(chat, { method: "PATCH", path, body: { model: "m-1" } });
  assert.deepEqual([plain.status, plain.backend, plain.body.model], [200, "1", "m-1"]);
  const edited = await tell(chat, { method: "PATCH", path, body: { status: "error" } });
  assert.deepEqual([edited.status, edited.backend, edited.body.status], [200, "2", "error"]);
});

Deno.test("nothing goes to V2 past a kill switch, nor where there is no mirror", async () => {
  const kill = { name: "disable_v2_messages", fences: true };
  const body = { ...newMessage(2), content: RICH };
  for (const chat of [makeChat(LIVE, { kill_switches: [kill] }), makeChat({ stage: "off" })]) {
    const { status, backend } = await tell(chat, { path: "/v2/messages", body });
    assert.deepEqual([status, backend], [201, "1"]);
    assert.deepEqual(chat.store.calls, ["insert 1"]);
  }
});

Deno.test("an edit by a V1 client that changes nothing writes nothing", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  const path = `/messages/${body.id}`;
  const edited = await tell(chat, { method: "PATCH", path, body: { content: "hello" } });
  assert.equal(edited.status, 200);
  assert.deepEqual(edited.body, body);
  assert.ok(!chat.store.calls.includes("update 2"));
});

Deno.test("an edit across formats does not overwrite one that came in between", async () => {
  const chat = makeChat(LIVE);
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  const id = String(body.id);
  const get = chat.store.get.bind(chat.store);
  let races = 1;
  chat.store.get = async (backend, wanted) => {
    const row = await get(backend, wanted);
    if (races-- > 0) {
      await chat.store.update(2, { id, changes: { content: RICH, updated_at: "later" } });
    }
    return row;
  };
  const edit = { method: "PATCH", path: `/messages/${id}`, body: { content: "changed" } };
  assert.equal((await tell(chat, edit)).status, 200);
  const row = chat.store.tables[2].get(id);
  assert.deepEqual(row?.content, [RICH[0], { type: "text", text: "changed" }]);
});

// Ids ------------------------------------------------------------------------------------------

Deno.test("the same idempotency key is the same message", async () => {
  const chat = makeChat(LIVE);
  const request = {
    path: "/messages",
    body: newMessage(1),
    headers: { "x-idempotency-key": "once" },
  };
  const [first, second] = [await tell(chat, request), await tell(chat, request)];
  assert.deepEqual([first.status, second.status], [201, 201]);
  assert.deepEqual(second.body, first.body);
  assert.match(String(first.body.id), /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab]/);
  assert.deepEqual(rows(chat), [1, 1]);
});

Deno.test("the same idempotency key of another user is another message", async () => {
  const chat = makeChat(LIVE);
  const request = {
    path: "/messages",
    body: newMessage(1),
    headers: { "x-idempotency-key": "once" },
  };
  const [mine, theirs] = [
    await tell(chat, request),
    await tell(chat, { ...request, user: OTHER }),
  ];
  assert.notEqual(mine.body.id, theirs.body.id);
});

Deno.test("the same id with another content is a conflict", async () => {
  const chat = makeChat(LIVE);
  const body = { ...newMessage(1), id: OTHER };
  assert.equal((await tell(chat, { path: "/messages", body })).body.id, OTHER);
  const again = await tell(chat, { path: "/messages", body: { ...body, content: "else" } });
  assert.deepEqual([again.status, again.body.code], [409, "CONFLICT"]);
});

// What is refused --------------------------------------------------------------------------------

const REFUSED: readonly [string, Parameters<typeof tell>[1], number, string][] = [
  ["no token", { path: "/messages", user: null }, 401, "UNAUTHORIZED"],
  ["a token without a user", { path: "/messages", user: "nobody" }, 401, "UNAUTHORIZED"],
  ["an unknown address", { path: "/orders" }, 404, "NOT_FOUND"],
  ["an unknown version", { path: "/v3/messages" }, 404, "UNSUPPORTED_API_VERSION"],
  ["an id that is none", { path: "/messages/7" }, 404, "NOT_FOUND"],
  ["a method that is not there", { path: "/reply" }, 405, "METHOD_NOT_ALLOWED"],
  ["no chat in a list", { path: "/messages" }, 400, "INVALID_BODY"],
  ["a limit of 0", { path: `/messages?chat_id=${CHAT}&limit=0` }, 400, "INVALID_BODY"],
  ["a limit of 501", { path: `/messages?chat_id=${CHAT}&limit=501` }, 400, "INVALID_BODY"],
  ["an unknown anchor", { path: `/messages?chat_id=${CHAT}&after=${OTHER}` }, 404, "NOT_FOUND"],
  ["a body that is a list", { path: "/messages", body: [] }, 400, "INVALID_BODY"],
  ["a chat that is no id", { path: "/messages", body: { chat_id: "1" } }, 422, "INVALID_MESSAGE"],
  [
    "no content",
    { path: "/messages", body: { chat_id: CHAT, role: "user" } },
    422,
    "INVALID_MESSAGE",
  ],
  [
    "an unknown role",
    { path: "/messages", body: { ...newMessage(1), role: "tool" } },
    422,
    "INVALID_MESSAGE",
  ],
  [
    "an unknown field",
    { path: "/messages", body: { ...newMessage(1), mood: "good" } },
    422,
    "INVALID_MESSAGE",
  ],
  ["V2 content for V1", { path: "/v1/messages", body: newMessage(2) }, 422, "INVALID_MESSAGE"],
  ["V1 content for V2", { path: "/v2/messages", body: newMessage(1) }, 422, "INVALID_MESSAGE"],
  [
    "a body of another version",
    { path: "/messages", body: { ...newMessage(1), schema_version: 2 } },
    400,
    "BODY_VERSION_MISMATCH",
  ],
  [
    "another media type",
    { path: "/messages", body: {}, headers: { "content-type": "text/xml" } },
    415,
    "UNSUPPORTED_MEDIA_TYPE",
  ],
  [
    "an empty idempotency key",
    { path: "/messages", body: newMessage(1), headers: { "x-idempotency-key": "" } },
    400,
    "INVALID_BODY",
  ],
];

for (const [name, request, status, code] of REFUSED) {
  Deno.test(`refused with a problem and all headers: ${name}`, async () => {
    const told = await tell(makeChat(LIVE), request);
    assert.deepEqual([told.status, told.body.code], [status, code]);
    assert.equal(told.headers.get("content-type"), "application/problem+json");
    assert.equal(told.body.error, told.body.detail);
    assert.equal(told.body.request_id, told.headers.get("x-request-id"));
    for (
      const header of ["x-api-version", "x-api-version-source", "x-api-supported-versions", "vary"]
    ) {
      assert.ok(told.headers.get(header), header);
    }
    assert.equal(told.headers.get("access-control-allow-origin"), "*");
  });
}

Deno.test("an unexpected error tells the client nothing but its id", async () => {
  const chat = makeChat({ stage: "off" });
  chat.store.fail("list", 1, new Error("password=hunter2"));
  const told = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  assert.equal(told.status, 500);
  assert.ok(!JSON.stringify(told.body).includes("hunter2"));
  assert.equal(chat.logged.length, 1);
});

Deno.test("a disabled version is refused, the other one served", async () => {
  const chat = makeChat(LIVE, {}, { disabledVersions: [2] });
  const path = `/v2/messages?chat_id=${CHAT}`;
  const told = await tell(chat, { path });
  assert.deepEqual([told.status, told.headers.get("retry-after")], [503, "60"]);
  assert.equal((await tell(chat, { path: path.replace("v2", "v1") })).status, 200);
});

Deno.test("a preflight needs no token and no version", async () => {
  const chat = makeChat(LIVE);
  const { status } = await tell(chat, {
    method: "OPTIONS",
    path: "/v9/messages",
    user: null,
    headers: { "access-control-request-method": "POST", "x-api-version": "9" },
  });
  assert.equal(status, 204);
});

Deno.test("OPTIONS without a preflight describes the API", async () => {
  const { status, body } = await tell(makeChat(LIVE), { method: "OPTIONS", path: "", user: null });
  assert.equal(status, 200);
  assert.deepEqual(body.supported_versions, ["1", "2"]);
});

// Replies ----------------------------------------------------------------------------------------

Deno.test("a reply is stored and answered in the client's format", async () => {
  for (const stage of ["off", "live"]) {
    for (const wire of [1, 2]) {
      const chat = makeChat({ stage });
      await tell(chat, { path: `/v${wire}/messages`, body: newMessage(wire) });
      const told = await tell(chat, { path: `/v${wire}/reply`, body: { chat_id: CHAT } });
      assert.deepEqual([told.status, told.body.role], [201, "assistant"]);
      assert.deepEqual(told.body.content, newMessage(wire, "You said: hello").content);
      assert.deepEqual(rows(chat), [2, 2]);
    }
  }
});

Deno.test("a reply whose history had to come from backend 1 is stored there", async () => {
  const chat = makeChat(LIVE);
  await tell(chat, { path: "/messages", body: newMessage(1) });
  chat.store.fail("list", 2, noAnswer());
  const told = await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
  assert.deepEqual([told.status, told.backend], [201, "1"]);
  assert.deepEqual(outcomes(chat).at(-1), [2, "fallback"]);
});

Deno.test("a reply asks the model once when storing falls back", async () => {
  let asked = 0;
  const completion = answering("hi");
  const model = () => Promise.resolve((asked += 1, completion));
  const chat = makeChat(LIVE, {}, { model });
  chat.store.fail("insert", 2, fenced());
  const told = await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
  assert.deepEqual([told.status, told.backend, asked], [201, "1", 1]);
});

Deno.test("the model's time is not counted as the migration's", async () => {
  const completion = answering("hi");
  const model = () => new Promise<typeof completion>((go) => setTimeout(() => go(completion), 60));
  const chat = makeChat(LIVE, {}, { model });
  await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
  assert.ok((chat.events[0]?.latency_ms ?? 1000) < 50);
});

Deno.test("memory on lets the model see more than the last message", async () => {
  const chat = makeChat(LIVE, { flags: [{ name: "enable_memory_system", default_value: true }] });
  for (const text of ["one", "two"]) {
    await tell(chat, { path: "/messages", body: newMessage(1, text) });
  }
  const told = await tell(chat, { path: "/reply", body: { chat_id: CHAT } });
  assert.equal(told.body.content, "You said: two (and 1 before)");
});

Deno.test("a model that does not answer is a 503 and stores nothing", async () => {
  const model = () =>
    Promise.reject(new Problem("upstream-unavailable", { status: 503, detail: "away" }));
  const chat = makeChat(LIVE, {}, { model });
  assert.equal((await tell(chat, { path: "/reply", body: { chat_id: CHAT } })).status, 503);
  assert.deepEqual(rows(chat), [0, 0]);
});

// Shadow and metrics -------------------------------------------------------------------------------

function shadowChat(rate: number): Chat {
  return makeChat({ stage: "shadow" }, { settings: { shadow_sample_rate: rate } }, {
    random: () => 0.5,
  });
}

Deno.test("shadow compares after the response and counts a match for backend 2", async () => {
  const chat = shadowChat(1);
  await tell(chat, { path: "/messages", body: newMessage(1) });
  const { backend } = await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  await Promise.all(chat.work);
  assert.equal(backend, "1");
  assert.deepEqual(outcomes(chat), [[1, "ok"], [1, "ok"], [2, "shadow_match"]]);
});

Deno.test("shadow counts a row that differs and one that is missing", async () => {
  for (const spoil of ["differs", "missing"]) {
    const chat = shadowChat(1);
    const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
    const table = chat.store.tables[2];
    if (spoil === "missing") table.clear();
    else table.set(String(body.id), { ...table.get(String(body.id)), content: [] });
    await tell(chat, { path: `/messages/${body.id}` });
    await Promise.all(chat.work);
    assert.deepEqual(outcomes(chat).at(-1), [2, "shadow_mismatch"], spoil);
  }
});

for (const wanted of [true, false]) {
  const name = "auto_migrate_messages";
  Deno.test(`with ${name} ${wanted} a message that V2 lacks is ${wanted ? "" : "not "}copied`, async () => {
    const flag = { name, enabled: wanted, percentage: 100 };
    const chat = makeChat(LIVE, { flags: [flag] });
    const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
    chat.store.tables[2].clear();
    const path = `/messages/${body.id}`;
    assert.equal((await tell(chat, { path })).backend, "1");
    await Promise.all(chat.work);
    assert.equal((await tell(chat, { path })).backend, wanted ? "2" : "1");
    assert.equal(chat.store.calls.includes("copy 2"), wanted);
  });
}

Deno.test("a message that cannot be copied is served all the same, and said", async () => {
  const flag = { name: "auto_migrate_messages", enabled: true, percentage: 100 };
  const chat = makeChat(LIVE, { flags: [flag] });
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  chat.store.tables[2].clear();
  chat.store.fail("copy", 2, fenced());
  assert.equal((await tell(chat, { path: `/messages/${body.id}` })).status, 200);
  await Promise.all(chat.work);
  assert.ok(chat.logged.includes("Cannot migrate a message on read"));
});

Deno.test("shadow takes no difference that is gone at a second look", async () => {
  const chat = shadowChat(1);
  const { body } = await tell(chat, { path: "/messages", body: newMessage(1) });
  const getMany = chat.store.getMany.bind(chat.store);
  let first = true;
  chat.store.getMany = async (backend, ids) => {
    const rows = await getMany(backend, ids);
    if (backend === 1 || !first) return rows;
    first = false;
    return rows.map((row) => ({ ...row, content: [] }));
  };
  await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  await Promise.all(chat.work);
  assert.ok(body.id);
  assert.deepEqual(outcomes(chat).at(-1), [2, "shadow_match"]);
});

Deno.test("shadow keeps to the sample rate and to its stage", async () => {
  for (const chat of [shadowChat(0.5), makeChat(LIVE, { settings: { shadow_sample_rate: 1 } })]) {
    await tell(chat, { path: "/messages", body: newMessage(1) });
    await tell(chat, { path: `/messages?chat_id=${CHAT}` });
    await Promise.all(chat.work);
    assert.ok(outcomes(chat).every(([, outcome]) => outcome === "ok"));
  }
});

Deno.test("a comparison that fails says nothing about the data", async () => {
  const chat = shadowChat(1);
  await tell(chat, { path: "/messages", body: newMessage(1) });
  chat.store.fail("getMany", 2, noAnswer());
  await tell(chat, { path: `/messages?chat_id=${CHAT}` });
  await Promise.all(chat.work);
  assert.deepEqual(outcomes(chat), [[1, "ok"], [1, "ok"]]);
  assert.equal(chat.logged.length, 1);
});

Deno.test("an event carries pair, versions, latency and the flags it was decided with", async () => {
  const chat = makeChat(LIVE);
  await tell(chat, { path: "/messages", body: newMessage(1) });
  const { latency_ms, ...event } = chat.events[0] ?? { latency_ms: -1 };
  assert.ok(latency_ms >= 0);
  assert.deepEqual(event, {
    pair: "chat_messages",
    backend_version: 2,
    wire_version: 1,
    outcome: "ok",
    flags_version: 1,
  });
});

Deno.test("routing follows the user, then the agent, then the conversation", async () => {
  const none = { percentage: 0 };
  const byAgent = makeChat({ ...LIVE, cohort: { ...none, enabled_agent_ids: ["agent-7"] } });
  const path = `/messages?chat_id=${CHAT}`;
  assert.equal((await tell(byAgent, { path })).backend, "1");
  const headers = { "x-agent-id": "agent-7" };
  assert.equal((await tell(byAgent, { path, headers })).backend, "2");
  const byUser = makeChat({ ...LIVE, cohort: { ...none, enabled_user_ids: [USER] } });
  assert.equal((await tell(byUser, { path })).backend, "2");
  assert.equal((await tell(byUser, { path, user: OTHER })).backend, "1");
});

Deno.test("store errors keep what is needed to classify them", () => {
  const error: StoreError = fenced();
  assert.ok(error.fenced && error.refused && !error.archived && !error.invalid);
  assert.equal(error.flagsVersion, 9);
});
