import assert from "node:assert/strict";
import {
  parseExact,
  shiftPoint,
} from "../../supabase/functions/_shared/crossfade/http/exact_json.ts";
import { Problem, problemBody } from "../../supabase/functions/_shared/crossfade/http/errors.ts";
import {
  checkDeprecation,
  isPreflight,
  preflightResponse,
  readJson,
  setAnswerHeaders,
} from "../../supabase/functions/_shared/crossfade/http/http.ts";

function post(body: BodyInit): Request {
  return new Request("http://edge.test/chat/messages", { method: "POST", body });
}

async function failure(work: Promise<unknown>): Promise<[number, string]> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof Problem);
    return [error.status, error.type];
  }
  return [200, "nothing"];
}

function nested(depth: number): string {
  return "[".repeat(depth) + "]".repeat(depth);
}

Deno.test("readJson() gives the value", async () => {
  assert.deepEqual(await readJson(post(`{"a":[1,"ż"]}`)), { a: [1, "ż"] });
});

Deno.test("readJson() refuses what is not JSON", async () => {
  for (const text of ["", "{", "undefined", "{'a':1}"]) {
    assert.deepEqual(await failure(readJson(post(text))), [400, "invalid-body"], text);
  }
});

Deno.test("readJson() takes a body of exactly the limit and refuses one byte more", async () => {
  const limits = { maxBytes: 10, maxDepth: 4 };
  assert.equal(await readJson(post(`"12345678"`), limits), "12345678");
  const large = [413, "body-too-large"];
  assert.deepEqual(await failure(readJson(post(`"123456789"`), limits)), large);
});

Deno.test("readJson() counts a body that does not say its length, in bytes", async () => {
  const limits = { maxBytes: 10, maxDepth: 4 };
  const stream = (text: string) => new Blob([text]).stream();
  assert.equal(await readJson(post(stream(`"żżżż"`)), limits), "żżżż");
  const large = [413, "body-too-large"];
  assert.deepEqual(await failure(readJson(post(stream(`"żżżżż"`)), limits)), large);
});

Deno.test("readJson() believes no length that is too large", async () => {
  const request = new Request("http://edge.test/", {
    method: "POST",
    body: "{}",
    headers: { "content-length": "99999999" },
  });
  assert.deepEqual(await failure(readJson(request)), [413, "body-too-large"]);
});

Deno.test("readJson() takes 64 levels and refuses 65", async () => {
  assert.ok(await readJson(post(nested(64))));
  assert.deepEqual(await failure(readJson(post(nested(65)))), [400, "body-too-deep"]);
});

Deno.test("readJson() survives a body that is nothing but brackets", async () => {
  assert.deepEqual(await failure(readJson(post(nested(200_000)))), [400, "body-too-deep"]);
});

Deno.test("readJson() refuses what PostgreSQL cannot hold, in values and keys", async () => {
  for (const text of [`"\\u0000"`, `{"\\ud83d":1}`, `["a\\udc00b"]`, `{"a":{"b":"\\u0000"}}`]) {
    assert.deepEqual(await failure(readJson(post(text))), [422, "invalid-message"], text);
  }
  assert.equal(await readJson(post(`"\\ud83d\\ude0a"`)), "😊");
});

Deno.test("readJson() refuses whole numbers it would round, and keeps those it would not", async () => {
  const refused = [422, "invalid-message"];
  assert.deepEqual(await failure(readJson(post(`{"n":9007199254740993}`))), refused);
  assert.deepEqual(await readJson(post(`{"n":1000000000000000}`)), { n: 1e15 });
  assert.deepEqual(await readJson(post(`{"t":"9007199254740993"}`)), { t: "9007199254740993" });
});

Deno.test("a preflight is told all headers that clients send and ours", () => {
  const { status, headers } = preflightResponse();
  const allowed = headers.get("access-control-allow-headers") ?? "";
  assert.equal(status, 204);
  assert.equal(headers.get("access-control-allow-origin"), "*");
  for (
    const name of [
      "authorization",
      "x-client-info",
      "apikey",
      "content-type",
      "x-retry-count",
      "x-api-version",
      "x-idempotency-key",
    ]
  ) assert.ok(allowed.split(", ").includes(name), name);
  for (const method of ["GET", "POST", "PATCH", "DELETE"]) {
    assert.ok(headers.get("access-control-allow-methods")?.includes(method), method);
  }
});

Deno.test("OPTIONS is a preflight only when it asks for a method", () => {
  const request = (headers: HeadersInit) =>
    new Request("http://edge.test/chat", { method: "OPTIONS", headers });
  assert.ok(isPreflight(request({ "Access-Control-Request-Method": "POST" })));
  assert.ok(!isPreflight(request({})));
});

Deno.test("every answer says version, source, what varies it, and exposes our headers", () => {
  const headers = new Headers();
  setAnswerHeaders(headers, {
    version: 2,
    source: "accept",
    requestId: "r-1",
    backend: 1,
    flagsVersion: 9,
    reason: "SPLIT",
  });
  const exposed = headers.get("access-control-expose-headers") ?? "";
  headers.delete("access-control-expose-headers");
  assert.deepEqual(Object.fromEntries(headers), {
    "access-control-allow-origin": "*",
    "cache-control": "private, no-store",
    "vary": "X-API-Version, Accept",
    "x-api-supported-versions": "1, 2",
    "x-api-version": "2",
    "x-api-version-source": "accept",
    "x-crossfade-backend": "1",
    "x-crossfade-flags-version": "9",
    "x-crossfade-reason": "SPLIT",
    "x-request-id": "r-1",
  });
  for (const name of ["X-API-Version", "Deprecation", "Sunset", "Link", "Retry-After"]) {
    assert.ok(exposed.split(", ").includes(name), name);
  }
});

Deno.test("the end of V1 is announced on V1 answers only", () => {
  const notice = checkDeprecation({
    deprecatedAt: 1_767_225_600,
    sunsetAt: 1_798_761_599,
    link: "https://example.com/v2",
  });
  const [first, second] = [new Headers(), new Headers()];
  setAnswerHeaders(first, { version: 1, source: "default", requestId: "r" }, notice);
  setAnswerHeaders(second, { version: 2, source: "header", requestId: "r" }, notice);
  assert.equal(first.get("deprecation"), "@1767225600");
  assert.equal(first.get("sunset"), "Thu, 31 Dec 2026 23:59:59 GMT");
  assert.match(first.get("link") ?? "", /rel="deprecation".*rel="sunset"/);
  for (const name of ["deprecation", "sunset", "link"]) assert.equal(second.get(name), null);
});

Deno.test("a sunset before the deprecation is refused", () => {
  assert.throws(() => checkDeprecation({ deprecatedAt: 2, sunsetAt: 1 }), RangeError);
});

Deno.test("a problem has the members of RFC 9457, a code, and the older `error`", () => {
  const problem = new Problem("not-found", {
    status: 404,
    detail: "There is no message",
    members: { requested: "7" },
  });
  assert.deepEqual(problemBody(problem, { instance: "/chat/messages/7", requestId: "r-1" }), {
    type: "urn:crossfade:problem:not-found",
    title: "There is no such resource",
    status: 404,
    detail: "There is no message",
    instance: "/chat/messages/7",
    code: "NOT_FOUND",
    requested: "7",
    request_id: "r-1",
    error: "There is no message",
  });
});

Deno.test("readJson() reads strict UTF-8 only", async () => {
  const broken = [[0xff], [0xc3], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]];
  for (const bytes of broken) {
    const body = new Uint8Array([0x22, ...bytes, 0x22]);
    assert.deepEqual(await failure(readJson(post(body))), [400, "invalid-body"], String(bytes));
  }
  assert.equal(await readJson(post(new Uint8Array([0x22, 0xf0, 0x9f, 0x98, 0x8a, 0x22]))), "😊");
});

Deno.test("readJson() refuses an encoded body and says what it takes", async () => {
  const encoded = (encoding: string) =>
    new Request("http://edge.test/", {
      method: "POST",
      body: "{}",
      headers: { "content-encoding": encoding },
    });
  for (const encoding of ["gzip", "br", "identity, gzip", "aws-chunked"]) {
    await assert.rejects(readJson(encoded(encoding)), (error: Problem) => {
      return error.status === 415 && error.headers["Accept-Encoding"] === "identity";
    });
  }
  assert.deepEqual(await readJson(encoded("Identity")), {});
});

Deno.test("a preflight allows all that supabase-js and its companions send", () => {
  const sent = "x-region,x-supabase-api-version,sentry-trace,baggage,prefer,accept-language," +
    "x-client-info,apikey,authorization,content-type,if-none-match,last-event-id,x-retry-count";
  const allowed = (preflightResponse().headers.get("access-control-allow-headers") ?? "")
    .split(", ");
  assert.deepEqual(sent.split(",").filter((name) => !allowed.includes(name)), []);
  const methods = preflightResponse().headers.get("access-control-allow-methods");
  assert.ok(methods?.split(", ").includes("HEAD"));
});

/** Numbers that a double keeps, and those that it changes. */
const KEPT = ["0", "-0.5", "1e2", "1.50", "9007199254740991", "0.30000000000000004", "1e-7"];
const CHANGED = ["9007199254740993", "99999999999999.99", "1e400", "0.1234567890123456789"];

Deno.test("readJson() refuses a number that would not be kept, by its name", async () => {
  for (const text of KEPT) assert.equal(await readJson(post(text)), Number(text));
  for (const text of CHANGED) {
    const refusal = await failure(readJson(post(`{"a":[${text}]}`)));
    assert.deepEqual(refusal, [422, "invalid-message"], text);
  }
});

Deno.test("parseExact() gives every number back as it was", () => {
  for (
    const text of ["9007199254740993", "1e400", "-0.1234567890123456789", "12345678901234567890.10"]
  ) {
    assert.equal(JSON.stringify(parseExact(`[${text}]`)), `[${text}]`);
  }
});

Deno.test("shiftPoint() moves the point exactly, in money of any size", () => {
  const cases: [unknown, number, string][] = [
    [1299, -2, "12.99"],
    [12.99, 2, "1299"],
    [1.005, 2, "100.5"],
    [0.07, 2, "7"],
    ["20.50", 2, "2050"],
    [-1, -2, "-0.01"],
    [parseExact("9999999999999999"), -2, "9999999999999999e-2"],
    [null, 2, "null"],
    ["abc", 2, '"abc"'],
  ];
  for (const [value, places, wanted] of cases) {
    assert.equal(JSON.stringify(shiftPoint(value, places)), wanted);
  }
  assert.equal(shiftPoint(undefined, 2), undefined);
});
