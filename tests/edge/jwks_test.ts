/** Tokens with real keys, published by a server of our own as Supabase Auth does. */

import assert from "node:assert/strict";
import { exportJWK, generateKeyPair, SignJWT } from "npm:jose@6.2.18";
import { checkByJwks } from "../../supabase/functions/_shared/crossfade/serve/jwks.ts";
import type { Problem } from "../../supabase/functions/_shared/crossfade/http/errors.ts";
import { makeChat, newMessage, USER } from "./chat_fixture.ts";

const PATH = "/auth/v1/.well-known/jwks.json";
const ours = await generateKeyPair("ES256");
const rsa = await generateKeyPair("RS256");
const theirs = await generateKeyPair("ES256");
const published = [
  { ...await exportJWK(ours.publicKey), kid: "ours", alg: "ES256", use: "sig" },
  { ...await exportJWK(rsa.publicKey), kid: "rsa", alg: "RS256", use: "sig" },
];

interface Made {
  readonly key?: Parameters<SignJWT["sign"]>[0];
  readonly kid?: string;
  readonly alg?: string;
  readonly audience?: string;
  readonly expiresIn?: string | null;
}

async function token(made: Made = {}): Promise<string> {
  const { key = ours.privateKey, kid = "ours", alg = "ES256" } = made;
  const { audience = "authenticated", expiresIn = "1h" } = made;
  const jwt = new SignJWT({ sub: USER, role: "authenticated" })
    .setProtectedHeader({ alg, kid, typ: "JWT" }).setAudience(audience);
  if (expiresIn !== null) jwt.setExpirationTime(expiresIn);
  return `Bearer ${await jwt.sign(key)}`;
}

/** Serves the keys, and counts how often they were asked for. */
async function withKeys(
  run: (url: string, asked: () => number) => Promise<void>,
  answer: () => Response | Promise<Response> = () => Response.json({ keys: published }),
): Promise<void> {
  let asked = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    asked += 1;
    return new URL(request.url).pathname === PATH ? answer() : new Response(null, { status: 404 });
  });
  try {
    await run(`http://127.0.0.1:${server.addr.port}`, () => asked);
  } finally {
    await server.shutdown();
  }
}

async function refusal(checking: Promise<void>): Promise<[number, string | undefined]> {
  const problem: Problem = await checking.then(
    () => assert.fail("it was let in"),
    (error) => error,
  );
  const headers = new Headers(problem.headers);
  return [
    problem.status,
    headers.get("www-authenticate") ?? headers.get("retry-after") ?? undefined,
  ];
}

const INVALID = [401, 'Bearer error="invalid_token"'];

Deno.test("jwks: tokens of the project's keys are let in, and the keys are read once", async () => {
  await withKeys(async (url, asked) => {
    const check = checkByJwks({ url });
    await check(await token());
    await check(await token({ key: rsa.privateKey, kid: "rsa", alg: "RS256" }));
    await check((await token()).replace("Bearer", "bearer "));
    assert.equal(asked(), 1);
  });
});

Deno.test("jwks: whatever is wrong with a token is 401", async () => {
  const unsigned = [{ alg: "none" }, { sub: USER, aud: "authenticated", exp: 9e9 }]
    .map((part) => btoa(JSON.stringify(part)).replaceAll("=", "")).join(".");
  const secret = new TextEncoder().encode("a secret that both sides share, as older projects have");
  const [head, , signature] = (await token()).split(".");
  const wrong: Readonly<Record<string, string>> = {
    "another key": await token({ key: theirs.privateKey }),
    "expired": await token({ expiresIn: "-1s" }),
    "never expires": await token({ expiresIn: null }),
    "wrong audience": await token({ audience: "anon" }),
    "unknown kid": await token({ key: theirs.privateKey, kid: "theirs" }),
    "another key under the other algorithm's kid": await token({ kid: "rsa" }),
    "the older shared secret": await token({ key: secret, kid: "ours", alg: "HS256" }),
    "unsigned": `Bearer ${unsigned}.`,
    "another payload": `${head}.${btoa('{"sub":"x"}').replaceAll("=", "")}.${signature}`,
    "no token": "Bearer a.b.c",
  };
  await withKeys(async (url) => {
    const check = checkByJwks({ url });
    for (const [name, header] of Object.entries(wrong)) {
      assert.deepEqual(await refusal(check(header)), INVALID, name);
    }
    await check(await token());
  });
});

Deno.test("jwks: a key that is unknown is looked for anew, and not at every request", async () => {
  await withKeys(async (url, asked) => {
    const check = checkByJwks({ url });
    for (let n = 0; n < 20; n++) await refusal(check(await token({ kid: "theirs" })));
    assert.equal(asked(), 1);
  });
});

for (
  const [name, answer] of [
    ["failing", () => new Response("no", { status: 500 })],
    ["answering nonsense", () => new Response("<html>")],
    ["silent", () => new Promise<Response>((go) => setTimeout(() => go(new Response()), 400))],
  ] as const
) {
  Deno.test(`jwks: with an Auth server ${name} nobody is let in and nobody is called wrong`, async () => {
    await withKeys(async (url) => {
      const check = checkByJwks({ url, timeoutMs: 200 });
      assert.deepEqual(await refusal(check(await token())), [503, "1"]);
    }, answer);
  });
}

Deno.test("jwks: with an Auth server away it is 503, and 200 when it is back", async () => {
  const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${closed.addr.port}`;
  closed.close();
  const check = checkByJwks({ url });
  assert.deepEqual(await refusal(check(await token())), [503, "1"]);
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: Number(new URL(url).port), onListen: () => {} },
    () => Response.json({ keys: published }),
  );
  await check(await token());
  await server.shutdown();
});

Deno.test("jwks: a function refuses before it reads flags, rows or a body", async () => {
  await withKeys(async (url) => {
    const chat = makeChat({ stage: "live" }, {}, { checkToken: checkByJwks({ url }) });
    const say = async (authorization: string) => {
      const headers = { authorization, "content-type": "application/json" };
      const body = JSON.stringify(newMessage(1));
      return await chat.app(
        new Request("http://edge.test/chat/messages", { method: "POST", headers, body }),
      );
    };
    const refused = await say(await token({ key: theirs.privateKey }));
    assert.deepEqual([refused.status, (await refused.json()).code], [401, "UNAUTHORIZED"]);
    assert.deepEqual([chat.store.calls, chat.database.reads, chat.events], [[], [], []]);
    assert.equal((await say(await token())).status, 201);
  });
});
