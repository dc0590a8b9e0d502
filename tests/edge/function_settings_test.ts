import assert from "node:assert/strict";
import type { StoreError } from "../../supabase/functions/_shared/crossfade/http/store_error.ts";
import {
  milliseconds,
  readKey,
  required,
} from "../../supabase/functions/_shared/crossfade/serve/settings.ts";
import { RpcDatabase } from "../../supabase/functions/_shared/crossfade/flags/rpc_database.ts";

const KEYS = { NEW_KEYS: '{"default": "sb_secret_new", "other": "x"}', OLD_KEY: "old" };

Deno.test("readKey() takes the key named default before the older variable", () => {
  assert.equal(readKey(KEYS, "NEW_KEYS", "OLD_KEY"), "sb_secret_new");
  assert.equal(readKey({ ...KEYS, NEW_KEYS: "{}" }, "NEW_KEYS", "OLD_KEY"), "old");
  assert.throws(() => readKey({}, "NEW_KEYS", "OLD_KEY"), /NEW_KEYS and OLD_KEY are missing/);
});

Deno.test("required() names the variable that is missing", () => {
  assert.equal(required({ A: "1" }, "A"), "1");
  assert.throws(() => required({ A: "" }, "A"), /variable A is missing/);
});

Deno.test("milliseconds() takes numbers and leaves the rest to the settings", () => {
  assert.deepEqual(milliseconds("softAgeMs", "100"), { softAgeMs: 100 });
  assert.deepEqual(milliseconds("hardAgeMs", "0"), { hardAgeMs: 0 });
  for (const text of [undefined, "", " ", "soon", "-1", "NaN"]) {
    assert.deepEqual(milliseconds("softAgeMs", text), {}, text);
  }
});

function databaseWith(secretKey: string, answer: () => Response) {
  const asked: Request[] = [];
  const fakeFetch = (url: string, init: RequestInit): Promise<Response> => {
    asked.push(new Request(url, init));
    return Promise.resolve(answer());
  };
  const database = new RpcDatabase({
    url: "http://stack.test",
    secretKey,
    fetch: fakeFetch as typeof fetch,
  });
  return { database, asked };
}

Deno.test("RpcDatabase calls functions of the schema with the key as hosted projects want it", async () => {
  const { signal } = new AbortController();
  for (const [key, bearer] of [["sb_secret_x", null], ["eyJ.a.b", "Bearer eyJ.a.b"]] as const) {
    const { database, asked } = databaseWith(key, () => Response.json({ flags_version: 1 }));
    assert.deepEqual(await database.readFlags(null, signal), { flags_version: 1 });
    await database.recordRequests([1], signal);
    await database.recordExposures([2], signal);
    const [read, requests, exposures] = asked;
    assert.equal(read?.url, "http://stack.test/rest/v1/rpc/read_flags");
    assert.equal(read?.headers.get("content-profile"), "crossfade");
    assert.deepEqual([read?.headers.get("apikey"), read?.headers.get("authorization")], [
      key,
      bearer,
    ]);
    assert.deepEqual(await read?.json(), { known_version: null });
    assert.deepEqual(await requests?.json(), { batch: [1] });
    assert.deepEqual(await exposures?.json(), { batch: [2] });
  }
});

Deno.test("RpcDatabase says what was refused and never the key", async () => {
  const { database } = databaseWith("sb_secret_x", () => new Response("no", { status: 503 }));
  await assert.rejects(
    database.readFlags(1, new AbortController().signal),
    (error: StoreError) => error.status === 503 && !error.refused && !/sb_/.test(error.message),
  );
});
