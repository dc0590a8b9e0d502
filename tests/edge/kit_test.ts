/** The kit with a pair that has nothing of chat: a thing with a price in cents, then in units. */

import assert from "node:assert/strict";
import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { FlagsClient } from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";
import { shiftPoint } from "../../supabase/functions/_shared/crossfade/http/exact_json.ts";
import type { Converter } from "../../supabase/functions/_shared/crossfade/serve/convert.ts";
import { createCrossfadeFunction } from "../../supabase/functions/_shared/crossfade/serve/create.ts";
import type { RequestEvent } from "../../supabase/functions/_shared/crossfade/serve/metrics.ts";
import type { FunctionOptions } from "../../supabase/functions/_shared/crossfade/serve/options.ts";
import { restRows } from "../../supabase/functions/_shared/crossfade/serve/rows.ts";
import { tokenOf, USER } from "./chat_fixture.ts";
import { FakeClock } from "./fake_clock.ts";
import { FakeDatabase } from "./fake_database.ts";
import { FakeRows } from "./fake_rows.ts";
import { archived, fenced, noAnswer, refused } from "./fake_store.ts";

const convert: Converter = {
  toV2: ({ cents, ...row }, base) => ({ tags: base?.tags, ...row, price: shiftPoint(cents, -2) }),
  toV1: ({ price, tags: _, ...row }) => ({ ...row, cents: shiftPoint(price, 2) }),
};

const RESOURCE = {
  tables: { 1: "things", 2: "things_v2" },
  fields: { 1: ["id", "name", "cents"], 2: ["id", "name", "price", "tags"] },
  convert,
} as const;

interface Setup extends Partial<FunctionOptions> {
  readonly stage?: string;
}

function makeShop({ stage = "live", ...options }: Setup = {}) {
  const pairs = ["things", "others"].map((name) => ({ name, stage, cohort: { percentage: 100 } }));
  const database = new FakeDatabase({ pairs });
  const clock = new FakeClock();
  const flags = new FlagsClient({ database, clock, bootstrap: readBootstrap(), log: () => {} });
  const rows = new FakeRows(convert, "id");
  const events: RequestEvent[] = [];
  const logged: string[] = [];
  const app = createCrossfadeFunction({
    name: "shop",
    pairs: [{ pair: "things", resource: RESOURCE }],
    flags,
    recorder: { record: (event) => events.push(event) },
    openRows: () => rows,
    log: (message) => logged.push(message),
    ...options,
  });
  const ask = async (method: string, path: string, body?: unknown, more = {}) => {
    const headers = { authorization: `Bearer ${tokenOf(USER)}`, ...more };
    const json = { "content-type": "application/json", ...headers };
    const response = await app(
      new Request(`http://edge.test/shop${path}`, {
        method,
        headers: body === undefined ? headers : json,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    );
    const text = await response.text();
    const told: Record<string, unknown> = text.startsWith("{") ? JSON.parse(text) : {};
    return { status: response.status, headers: response.headers, body: told, text };
  };
  return { ask, rows, events, database, logged };
}

for (const stage of ["off", "dualwrite", "shadow", "live", "rampdown", "complete", "retired"]) {
  const backend = ["live", "rampdown", "complete", "retired"].includes(stage) ? "2" : "1";
  for (const version of [1, 2]) {
    Deno.test(`stage ${stage}: a V${version} client creates, reads, edits and deletes`, async () => {
      const { ask, rows, events } = makeShop({ stage });
      const price = version === 1 ? { cents: 1299 } : { price: 12.99 };
      const dearer = version === 1 ? { cents: 2000 } : { price: 20 };
      const path = `/v${version}/things`;
      const made = await ask("POST", path, { name: "a", ...price });
      assert.equal(made.status, 201);
      const one = `${path}/${made.body.id}`;
      const got = await ask("GET", one);
      assert.deepEqual(got.body, made.body);
      const edited = await ask("PATCH", one, dearer);
      const seen = Object.fromEntries(Object.keys(dearer).map((name) => [name, edited.body[name]]));
      assert.deepEqual(seen, dearer);
      const listed = await ask("GET", `${path}?limit=5`);
      assert.deepEqual(listed.body, { things: [edited.body] });
      assert.equal((await ask("DELETE", one)).status, 204);
      assert.equal((await ask("GET", one)).status, 404);
      for (const { headers } of [made, got, edited, listed]) {
        assert.equal(headers.get("x-crossfade-backend"), backend);
        assert.equal(headers.get("x-api-version"), String(version));
      }
      assert.deepEqual(rows.tables, { things: [], things_v2: [] });
      assert.ok(events.every(({ pair }) => pair === "things"));
      assert.equal(events.length, 6);
    });
  }
}

Deno.test("an edit by a V1 client keeps what only V2 holds", async () => {
  const { ask, rows } = makeShop();
  const made = await ask("POST", "/v2/things", { name: "a", price: 1, tags: ["x"] });
  await ask("PATCH", `/v1/things/${made.body.id}`, { cents: 250 });
  assert.deepEqual(rows.tables.things_v2, [{ ...made.body, price: 2.5, tags: ["x"] }]);
});

Deno.test("what V1 cannot hold goes to V2 while the mirror runs, and is refused where it cannot", async () => {
  const body = { name: "a", price: 1, tags: ["x"] };
  for (const [stage, status] of [["off", 409], ["shadow", 201]] as const) {
    const { ask, rows } = makeShop({ stage });
    const made = await ask("POST", "/v2/things", body);
    assert.equal(made.status, status, stage);
    assert.deepEqual(rows.tables.things_v2?.map(({ tags }) => tags), status === 201 ? [["x"]] : []);
    if (status === 409) assert.match(String(made.body.detail), /Field "tags"/);
  }
  const { ask, rows } = makeShop();
  rows.failures.set("insert things_v2", fenced());
  const refusal = await ask("POST", "/v2/things", body);
  assert.deepEqual([refusal.status, rows.tables.things], [503, []]);
});

Deno.test("a failure of backend 2 is answered by backend 1 and says so", async () => {
  const { ask, rows, events } = makeShop();
  rows.failures.set("list things_v2", noAnswer());
  const { status, headers } = await ask("GET", "/things");
  assert.deepEqual([status, headers.get("x-crossfade-reason")], [200, "ERROR"]);
  assert.deepEqual(events.map(({ outcome }) => outcome), ["fallback"]);
  rows.failures.set("insert things", archived());
  assert.equal((await ask("POST", "/things", { name: "b", cents: 1 })).status, 201);
});

Deno.test("a request with the same key is one row; another content is a conflict", async () => {
  const { ask, rows } = makeShop();
  const key = { "x-idempotency-key": "k" };
  const made = await ask("POST", "/things", { name: "a", cents: 1 }, key);
  const again = await ask("POST", "/things", { name: "a", cents: 1 }, key);
  assert.deepEqual([again.status, again.body], [201, made.body]);
  assert.equal((await ask("POST", "/things", { name: "b", cents: 1 }, key)).status, 409);
  assert.equal(rows.tables.things?.length, 1);
});

Deno.test("a resource whose key the database makes refuses such a key by name", async () => {
  const resource = { ...RESOURCE, key: ["id", "name"] };
  const { ask } = makeShop({ pairs: [{ pair: "things", resource }] });
  const { status, body } = await ask("POST", "/things", { name: "a" }, {
    "x-idempotency-key": "k",
  });
  assert.deepEqual([status, /X-Idempotency-Key/.test(String(body.detail))], [400, true]);
});

Deno.test("a second pair is a second entry of a list", async () => {
  const { ask, events } = makeShop({
    pairs: [
      { pair: "things", resource: RESOURCE },
      { pair: "others", resource: { ...RESOURCE, path: "/things/again" } },
    ],
  });
  await ask("GET", "/things");
  await ask("GET", "/things/again");
  assert.deepEqual(events.map(({ pair }) => pair), ["things", "others"]);
});

Deno.test("a field that is none is refused by its name, and so is a parameter", async () => {
  const { ask, rows } = makeShop();
  const wrong = await ask("POST", "/things", { name: "a", price: 1 });
  assert.deepEqual([wrong.status, /"price"/.test(String(wrong.body.detail))], [422, true]);
  for (const query of ["colour=red", "limit=0", "limit=501", "after=1,2"]) {
    assert.equal((await ask("GET", `/things?${query}`)).status, 400, query);
  }
  assert.deepEqual(rows.calls, []);
});

Deno.test("HEAD is GET without its body", async () => {
  const { ask } = makeShop();
  const get = await ask("GET", "/things");
  const head = await ask("HEAD", "/things");
  assert.deepEqual([head.status, head.text], [get.status, ""]);
  assert.equal(head.headers.get("content-type"), get.headers.get("content-type"));
  assert.equal((await ask("HEAD", "/nowhere")).text, "");
  const { headers, status } = await ask("PATCH", "/things", {});
  assert.deepEqual([status, headers.get("allow")], [405, "GET, HEAD, POST, OPTIONS"]);
});

Deno.test("a stream is told in the client's version and its failure as an event", async () => {
  const routes = [{
    method: "POST",
    path: "/told",
    handle: () =>
      Promise.resolve({
        status: 200,
        backend: 2,
        events: (emit: (event: { event: string; data: { n: number } }) => void) => {
          emit({ event: "one", data: { n: 1 } });
          return Promise.reject(refused("57014", 500));
        },
      }),
  }] as FunctionOptions["routes"];
  const { ask, events } = makeShop({
    ...(routes === undefined ? {} : { routes }),
    convertEvent: ({ event, data }, to) => ({ event: `${event} of ${to}`, data }),
  });
  const { text } = await ask("POST", "/v1/told", {});
  assert.match(text, /^event: one of 1\ndata: \{"n":1\}\n\nevent: error of 1\ndata: \{/);
  assert.deepEqual(events.map(({ outcome }) => outcome), ["error"]);
});

Deno.test("the discovery document names the addresses", async () => {
  const { ask } = makeShop();
  const { body } = await ask("OPTIONS", "");
  assert.deepEqual([body.name, body.resources], ["shop", ["/things", "/things/{id}"]]);
});

Deno.test("the end of V1 is announced by settings that begin with the function's name", async () => {
  const { ask, database } = makeShop();
  database.rows = { ...database.rows, settings: { shop_v1_deprecated_at: "2026-01-01" } };
  const { headers } = await ask("GET", "/things");
  assert.equal(headers.get("deprecation"), "@1767225600");
  assert.match(
    headers.get("link") ?? "",
    /\/functions\/v1\/shop\/v2\/things>; rel="successor-version"/,
  );
});

// Rows over the Data API ------------------------------------------------------------------------

function restShop(answer: () => Response) {
  const asked: { method: string; url: URL; body: string }[] = [];
  const fetcher = async (url: string, init: RequestInit): Promise<Response> => {
    const request = new Request(url, init);
    asked.push({ method: request.method, url: new URL(request.url), body: await request.text() });
    return answer();
  };
  const open = restRows({
    url: "http://stack.test",
    publishableKey: "sb_publishable_x",
    fetch: fetcher as typeof fetch,
  });
  return { rows: open({ authorization: "Bearer a.b.c", userId: USER }), asked };
}

Deno.test("rows are asked for by key, after a key of several columns, and with odd values", async () => {
  const { rows, asked } = restShop(() => Response.json([]));
  const after = { a: 'x,"y', b: "2" };
  await rows.list("things", { where: { a: "1&b=2" }, order: ["a", "b"], after, limit: 7 });
  await rows.getMany("things", [{ a: "1", b: "2" }, { a: "(3)", b: "4" }]);
  const [list, many] = asked.map(({ url }) => Object.fromEntries(url.searchParams));
  assert.deepEqual(list, {
    a: "eq.1&b=2",
    or: '(and(a.gt."x,\\"y"),and(a.eq."x,\\"y",b.gt."2"))',
    order: "a.asc,b.asc",
    limit: "7",
  });
  assert.deepEqual(many, { or: '(and(a.eq."1",b.eq."2"),and(a.eq."(3)",b.eq."4"))' });
});

Deno.test("numbers of rows come through as the database wrote them", async () => {
  const text = `[{"id":9007199254740993,"total":12345678901234.567890}]`;
  const { rows } = restShop(() => new Response(text));
  assert.equal(JSON.stringify(await rows.getMany("things", [{ id: "1" }])), text);
});

Deno.test("an answer that is none is no refusal of the database", async () => {
  for (const answer of [new Response("<html>", { status: 502 }), Response.json({ a: 1 })]) {
    const { rows } = restShop(() => answer);
    await assert.rejects(rows.remove("things", { id: "1" }), {
      name: "StoreError",
      refused: false,
    });
  }
  const { rows } = restShop(() => {
    throw new TypeError("fetch failed");
  });
  await assert.rejects(rows.remove("things", { id: "1" }), { refused: false, status: 0 });
});
