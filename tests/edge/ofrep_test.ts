import assert from "node:assert/strict";
import { recognise } from "../../supabase/functions/_shared/crossfade/http/callers.ts";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { CHAT as CHAT_FLAGS } from "../../supabase/functions/chat/adapters/feature_flags.ts";
import { FlagsClient } from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";
import { createOfrep } from "../../supabase/functions/_shared/crossfade/openfeature/ofrep.ts";
import { FakeClock, settle } from "./fake_clock.ts";
import { FakeDatabase } from "./fake_database.ts";

const SECRET = "sb_secret_test";
const FLAGS = [
  { name: "on", default_value: true },
  { name: "split", percentage: 50, cohort_key: "chat-v2" },
  { name: "killed", default_value: true, killed_by: ["stop"] },
  { name: "größe 数/%", default_value: true },
];
const TOKEN = "header.user-2.signature";

function setUp() {
  const clock = new FakeClock();
  const database = new FakeDatabase({
    flags: FLAGS,
    kill_switches: [{ name: "stop", engaged: true }],
  });
  const flags = new FlagsClient({
    database,
    clock,
    bootstrap: readBootstrap({}, CHAT_FLAGS),
    log: () => {},
  });
  const asked: string[] = [];
  const auth = { status: 200 };
  /** The Auth server: knows one token. */
  const fakeFetch = (_: unknown, init?: RequestInit): Promise<Response> => {
    const token = new Headers(init?.headers).get("authorization") ?? "";
    asked.push(token);
    const known = token === `Bearer ${TOKEN}` && auth.status === 200;
    const status = known ? 200 : auth.status === 200 ? 403 : auth.status;
    return Promise.resolve(Response.json(known ? { id: "user-2" } : {}, { status }));
  };
  const authorize = recognise({
    url: "http://stack.test",
    publishableKey: "sb_publishable_test",
    trustedKeys: [SECRET],
    clock,
    fetch: fakeFetch as typeof fetch,
  });
  const logged: string[] = [];
  const handle = createOfrep({ flags, authorize, log: (message) => logged.push(message) });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    handle(
      new Request(`http://edge.test/ofrep/v1/evaluate/flags${path}`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: { "authorization": `Bearer ${SECRET}`, ...headers },
      }),
    );
  return { handle, post, flags, database, clock, asked, auth, logged };
}

async function read(response: Response): Promise<[number, Record<string, unknown>]> {
  return [response.status, await response.json()];
}

const USER_2 = { context: { targetingKey: "user-2" } };

Deno.test("ofrep: one flag is answered with value, variant, reason and flat metadata", async () => {
  const { post } = setUp();
  assert.deepEqual(await read(await post("/split", USER_2)), [200, {
    key: "split",
    value: true,
    variant: "on",
    reason: "SPLIT",
    metadata: { rule: "percentage", bucket: 5626, threshold: 50000, flags_version: 1 },
  }]);
});

Deno.test("ofrep: a kill switch is told in words that the official clients accept", async () => {
  const { post } = setUp();
  const [status, body] = await read(await post("/killed", USER_2));
  assert.equal(status, 200);
  assert.deepEqual([body.value, body.variant, body.reason], [false, "off", "DISABLED"]);
  assert.deepEqual(body.metadata, { rule: "kill_switch", kill_switch: "stop", flags_version: 1 });
});

Deno.test("ofrep: a name in any alphabet is found, and one that is broken is not", async () => {
  const { post } = setUp();
  assert.equal((await post(`/${encodeURIComponent("größe 数/%")}`, {})).status, 200);
  assert.equal((await post("/%E0%A4%A", {})).status, 404);
});

Deno.test("ofrep: errors have the protocol's bodies", async () => {
  const { post } = setUp();
  const cases: [string, unknown, number, string][] = [
    ["/missing", USER_2, 404, "FLAG_NOT_FOUND"],
    ["/on", "{", 400, "PARSE_ERROR"],
    ["/on", "[]", 400, "PARSE_ERROR"],
    ["/on", "", 400, "PARSE_ERROR"],
    ["/on", { context: [] }, 400, "INVALID_CONTEXT"],
    ["/on", { context: { targetingKey: { a: 1 } } }, 400, "INVALID_CONTEXT"],
    ["/on", { context: { user_id: 1.5 } }, 400, "INVALID_CONTEXT"],
    ["/on", { context: { user_id: "a\0b" } }, 400, "INVALID_CONTEXT"],
    ["/on", { context: { other: "x".repeat(70_000) } }, 413, "GENERAL"],
    ["", { context: 5 }, 400, "INVALID_CONTEXT"],
  ];
  for (const [path, body, status, code] of cases) {
    const [got, answer] = await read(await post(path, body));
    assert.deepEqual([got, answer.errorCode], [status, code], `${path} ${status}`);
    assert.equal(typeof answer.errorDetails, "string");
    if (path !== "") assert.equal(answer.key, path.slice(1));
  }
});

Deno.test("ofrep: a body without a context is answered as for nobody", async () => {
  const { post } = setUp();
  const [status, body] = await read(await post("/split", {}));
  assert.deepEqual([status, body.value, body.reason], [200, false, "DEFAULT"]);
});

Deno.test("ofrep: all flags at once, by name, with an ETag", async () => {
  const { post } = setUp();
  const response = await post("", USER_2);
  assert.match(response.headers.get("etag") ?? "", /^"[0-9a-f]{32}"$/);
  assert.equal(response.headers.get("cache-control"), "private, no-store");
  const { flags, metadata } = await response.json();
  const expected = ["größe 数/%", "killed", "on", "split"].toSorted();
  assert.deepEqual(flags.map((flag: { key: string }) => flag.key), expected);
  assert.deepEqual(metadata, { flags_version: 1 });
  for (const flag of flags) {
    const single = await post(`/${encodeURIComponent(flag.key)}`, USER_2);
    assert.deepEqual(await single.json(), flag);
  }
});

Deno.test("ofrep: 304 while nothing has changed for this context, and 200 when it has", async () => {
  const { post, clock, database, flags } = setUp();
  const etag = (await post("", USER_2)).headers.get("etag") ?? "";
  for (const known of [etag, `W/${etag}`, `"x", ${etag}`, "*"]) {
    const response = await post("", USER_2, { "if-none-match": known });
    assert.deepEqual([response.status, await response.text()], [304, ""], known);
    assert.equal(response.headers.get("etag"), etag);
  }
  const other = { context: { targetingKey: "user-1" } };
  assert.equal((await post("", other, { "if-none-match": etag })).status, 200);
  database.version = 2;
  database.rows = { flags: FLAGS.slice(1) };
  await clock.advance(1_000);
  flags.noteVersion(2);
  await settle();
  assert.equal((await post("", USER_2, { "if-none-match": etag })).status, 200);
});

Deno.test("ofrep: one flag counts as an exposure, all at once do not", async () => {
  const { post, flags, database } = setUp();
  await post("", USER_2);
  await post("/on", USER_2);
  await flags.exposures?.flush();
  assert.deepEqual(database.exposures, [[
    { flag: "on", variant: "on", reason: "DEFAULT", count: 1 },
  ]]);
});

Deno.test("ofrep: nobody is answered without a credential", async () => {
  const { handle, post } = setUp();
  const refused = [
    await post("/on", USER_2, { authorization: "Bearer sb_secret_tesu" }),
    await post("/on", USER_2, { authorization: "" }),
    await post("/on", USER_2, { authorization: "Bearer forged.token.here" }),
    await post("/on", USER_2, { authorization: "", "x-api-key": "sb_publishable_test" }),
    await handle(
      new Request("http://edge.test/ofrep/v1/evaluate/flags", { method: "POST", body: "{}" }),
    ),
  ];
  for (const response of refused) {
    assert.equal(response.status, 401);
    assert.equal(typeof (await response.json()).errorDetails, "string");
  }
});

Deno.test("ofrep: a trusted key is taken from any of the three headers", async () => {
  const { post, asked } = setUp();
  for (const name of ["x-api-key", "apikey"]) {
    assert.equal((await post("/on", USER_2, { authorization: "", [name]: SECRET })).status, 200);
  }
  assert.deepEqual(asked, []);
});

Deno.test("ofrep: a user's token answers for that user and for nobody else", async () => {
  const { post } = setUp();
  const user = { authorization: `Bearer ${TOKEN}` };
  const [, own] = await read(await post("/split", { context: {} }, user));
  assert.deepEqual([own.value, own.reason], [true, "SPLIT"]);
  assert.equal((await post("/split", USER_2, user)).status, 200);
  const other = { context: { targetingKey: "user-1" } };
  assert.equal((await post("/split", other, user)).status, 403);
  assert.equal((await post("", other, user)).status, 403);
});

Deno.test("ofrep: an accepted token is remembered for a minute and not longer", async () => {
  const { post, asked, clock, auth } = setUp();
  const user = { authorization: `Bearer ${TOKEN}` };
  await post("/on", {}, user);
  await post("/on", {}, user);
  assert.equal(asked.length, 1);
  auth.status = 401;
  await clock.advance(60_000);
  assert.equal((await post("/on", {}, user)).status, 401);
});

Deno.test("ofrep: an Auth server that fails is no refusal and no grant", async () => {
  const { post, auth, logged } = setUp();
  auth.status = 503;
  const [status, body] = await read(await post("/on", {}, { authorization: `Bearer ${TOKEN}` }));
  assert.deepEqual([status, body.errorDetails], [500, "The evaluation failed"]);
  assert.equal(logged.length, 1);
});

Deno.test("ofrep: before the flags have been read it asks to try again", async () => {
  const { post, database } = setUp();
  database.failure = new Error("away");
  for (const path of ["/on", ""]) {
    const response = await post(path, USER_2);
    assert.equal(response.headers.get("retry-after"), "1");
    const [status, body] = await read(response);
    assert.deepEqual([status, body.errorCode], [503, "GENERAL"]);
  }
});

Deno.test("ofrep: browsers may ask, and other methods and paths are refused", async () => {
  const { handle } = setUp();
  const url = "http://edge.test/functions/v1/ofrep/v1/evaluate/flags";
  const preflight = await handle(new Request(url, { method: "OPTIONS" }));
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get("access-control-allow-headers") ?? "", /if-none-match/);
  const get = await handle(new Request(url));
  assert.deepEqual([get.status, get.headers.get("allow")], [405, "POST, OPTIONS"]);
  const lost = await handle(new Request("http://edge.test/ofrep/v2/evaluate/flags"));
  assert.equal(lost.status, 404);
});

Deno.test("ofrep: whatever is sent, the answer is clear and never a failure of the endpoint", async () => {
  const { handle, logged } = setUp();
  let state = 20261122;
  const dice = (sides: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % sides;
  };
  const deep = "[".repeat(10_000) + "]".repeat(10_000);
  const values = [
    "null",
    "0",
    "1e400",
    "-0",
    '""',
    '"\\ud800"',
    '"\\u0000"',
    "[]",
    "{}",
    "true",
    deep,
  ];
  const value = (): string => values[dice(values.length)] ?? "null";
  const bodies = [
    (): Uint8Array => Uint8Array.from({ length: dice(200) }, () => dice(256)),
    (): string => `{"context": {"targetingKey": ${value()}, "user_id": ${value()}}}`,
    (): string => `{"context": ${value()}}`.slice(0, dice(40)),
    (): string => `{"__proto__": {"context": 1}, "context": {"__proto__": ${value()}}}`,
    (): string => value(),
  ];
  const paths = ["", "/", "/on", "/missing", "/%00", "/%ff", "/a/b", "/on?x=1", "/__proto__"];
  for (let i = 0; i < 2_000; i++) {
    const path = paths[dice(paths.length)] ?? "";
    const response = await handle(
      new Request(`http://edge.test/ofrep/v1/evaluate/flags${path}`, {
        method: "POST",
        body: (bodies[dice(bodies.length)]?.() ?? "") as BodyInit,
        headers: { "x-api-key": SECRET },
      }),
    );
    assert.ok([200, 400, 404].includes(response.status), `${path}: HTTP ${response.status}`);
    const body = await response.json();
    if (response.status !== 200) assert.equal(typeof body.errorDetails, "string");
  }
  assert.deepEqual(logged, []);
});
