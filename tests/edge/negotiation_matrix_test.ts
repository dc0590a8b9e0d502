/**
 * Every source of the version with every way to say it, at the chat function: what is served or
 * refused, and the headers of both.
 *
 * @module
 */

import assert from "node:assert/strict";
import { CHAT, makeChat, tell } from "./chat_fixture.ts";

type Source = "header" | "accept" | "url" | "default";
type Said = "absent" | "1" | "2" | "malformed" | "unsupported" | "duplicate";

interface Expected {
  readonly status: number;
  readonly version: "1" | "2";
  readonly source: Source;
  readonly code?: string;
  readonly requested?: string;
}

interface Row {
  readonly source: Source;
  readonly said: Said;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly expect: Expected;
}

const LIST = `/messages?chat_id=${CHAT}`;
const FIRST = { status: 200, version: "1", source: "default" } as const;

const served = (version: "1" | "2", source: Source): Expected => ({ status: 200, version, source });
const refused = (status: number, source: Source, code: string, requested: string): Expected => ({
  status,
  version: "1",
  source,
  code,
  requested,
});

const MATRIX: readonly Row[] = [
  { source: "header", said: "absent", expect: FIRST },
  { source: "header", said: "1", headers: { "x-api-version": "1" }, expect: served("1", "header") },
  { source: "header", said: "2", headers: { "x-api-version": "2" }, expect: served("2", "header") },
  {
    source: "header",
    said: "malformed",
    headers: { "x-api-version": "latest" },
    expect: refused(400, "header", "INVALID_API_VERSION", "latest"),
  },
  {
    source: "header",
    said: "unsupported",
    headers: { "x-api-version": "3" },
    expect: refused(400, "header", "UNSUPPORTED_API_VERSION", "3"),
  },
  {
    source: "header",
    said: "duplicate",
    headers: { "x-api-version": "1, 2" },
    expect: refused(400, "header", "AMBIGUOUS_API_VERSION", "1, 2"),
  },
  { source: "accept", said: "absent", headers: { accept: "application/json" }, expect: FIRST },
  {
    source: "accept",
    said: "1",
    headers: { accept: "application/json;version=1" },
    expect: served("1", "accept"),
  },
  {
    source: "accept",
    said: "2",
    headers: { accept: "application/vnd.crossfade.v2+json" },
    expect: served("2", "accept"),
  },
  {
    source: "accept",
    said: "malformed",
    headers: { accept: "application/json;version=latest" },
    expect: refused(406, "accept", "INVALID_API_VERSION", "latest"),
  },
  {
    source: "accept",
    said: "unsupported",
    headers: { accept: "application/json;version=3" },
    expect: refused(406, "accept", "UNSUPPORTED_API_VERSION", "3"),
  },
  {
    source: "accept",
    said: "duplicate",
    headers: { accept: "application/json;version=1, application/json;version=2" },
    expect: served("2", "accept"),
  },
  { source: "url", said: "absent", expect: FIRST },
  { source: "url", said: "1", path: `/v1${LIST}`, expect: served("1", "url") },
  { source: "url", said: "2", path: `/v2${LIST}`, expect: served("2", "url") },
  // Not a version at all: then it is a resource, and there is none of that name.
  {
    source: "url",
    said: "malformed",
    path: `/vlatest${LIST}`,
    expect: { status: 404, version: "1", source: "default", code: "NOT_FOUND" },
  },
  {
    source: "url",
    said: "unsupported",
    path: `/v3${LIST}`,
    expect: refused(404, "url", "UNSUPPORTED_API_VERSION", "3"),
  },
  // Only the first segment counts; the second one is a resource.
  {
    source: "url",
    said: "duplicate",
    path: `/v2/v1${LIST}`,
    expect: { status: 404, version: "2", source: "url", code: "NOT_FOUND" },
  },
  { source: "default", said: "absent", expect: FIRST },
  // The default is fixed, so nothing but another source can say otherwise.
  { source: "default", said: "1", headers: { accept: "*/*" }, expect: FIRST },
  {
    source: "default",
    said: "2",
    headers: { accept: "*/*", "x-api-version": "2" },
    expect: served("2", "header"),
  },
  // A source that is bad is refused and never falls through to the default.
  {
    source: "default",
    said: "malformed",
    headers: { "x-api-version": "" },
    expect: refused(400, "header", "INVALID_API_VERSION", ""),
  },
  {
    source: "default",
    said: "unsupported",
    headers: { "x-api-version": "3", accept: "application/json;version=2" },
    path: `/v1${LIST}`,
    expect: refused(400, "header", "UNSUPPORTED_API_VERSION", "3"),
  },
  // Several sources: the highest one wins and the others are left alone.
  {
    source: "default",
    said: "duplicate",
    headers: { "x-api-version": "1", accept: "application/json;version=2" },
    path: `/v2${LIST}`,
    expect: served("1", "header"),
  },
];

for (const { source, said, path = LIST, headers = {}, expect } of MATRIX) {
  Deno.test(`negotiation: ${source} ${said} is ${expect.code ?? `V${expect.version}`}`, async () => {
    const told = await tell(makeChat({ stage: "live" }), { path, headers });
    assert.equal(told.status, expect.status);
    assert.equal(told.headers.get("x-api-version"), expect.version);
    assert.equal(told.headers.get("x-api-version-source"), expect.source);
    assert.equal(told.headers.get("x-api-supported-versions"), "1, 2");
    assert.equal(told.headers.get("vary"), "X-API-Version, Accept");
    assert.equal(told.headers.get("cache-control"), "private, no-store");
    assert.equal(told.headers.get("access-control-allow-origin"), "*");
    assert.ok(told.headers.get("access-control-expose-headers")?.includes("X-API-Version-Source"));
    assert.ok(told.headers.get("x-request-id"));
    if (expect.code === undefined) {
      const vendor = headers.accept?.includes("vnd.crossfade") === true;
      const type = vendor ? "application/vnd.crossfade.v2+json" : "application/json; charset=utf-8";
      assert.equal(told.headers.get("content-type"), type);
      return;
    }
    assert.equal(told.headers.get("content-type"), "application/problem+json");
    const { body } = told;
    assert.equal(body.code, expect.code);
    assert.equal(body.status, expect.status);
    assert.equal(
      body.type,
      `urn:crossfade:problem:${expect.code.toLowerCase().replaceAll("_", "-")}`,
    );
    assert.equal(body.error, body.detail);
    assert.equal(body.request_id, told.headers.get("x-request-id"));
    if (expect.requested === undefined) return;
    assert.equal(body.requested, expect.requested);
    assert.equal(body.source, expect.source);
    assert.deepEqual(body.supported, ["1", "2"]);
  });
}

Deno.test("negotiation: the matrix has every source with every way to say it", () => {
  const cells = new Set(MATRIX.map(({ source, said }) => `${source} ${said}`));
  assert.equal(cells.size, 4 * 6);
});

Deno.test("negotiation: a preflight carries the headers of every answer and may be kept", async () => {
  for (const [path, version] of [["/messages", "1"], ["/v2/messages", "2"]] as const) {
    const headers = { "access-control-request-method": "POST", "x-api-version": "9" };
    const told = await tell(makeChat({ stage: "live" }), {
      method: "OPTIONS",
      path,
      headers,
      user: null,
    });
    assert.equal(told.status, 204);
    assert.equal(told.headers.get("x-api-version"), version);
    assert.equal(told.headers.get("x-api-supported-versions"), "1, 2");
    assert.equal(told.headers.get("access-control-max-age"), "86400");
    assert.equal(told.headers.get("cache-control"), null);
    assert.ok(told.headers.get("vary")?.includes("Access-Control-Request-Headers"));
    assert.ok(told.headers.get("x-request-id"));
  }
});
