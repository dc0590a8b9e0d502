import assert from "node:assert/strict";
import { Problem } from "../../supabase/functions/_shared/crossfade/http/errors.ts";
import { readCaller } from "../../supabase/functions/_shared/crossfade/serve/claims.ts";
import { loggable } from "../../supabase/functions/_shared/crossfade/serve/loggable.ts";
import { readSettings } from "../../supabase/functions/_shared/crossfade/serve/settings.ts";
import { readError } from "../../supabase/functions/_shared/crossfade/http/store_error.ts";
import { tokenOf, USER } from "./chat_fixture.ts";

const MINIMUM = {
  SUPABASE_URL: "http://127.0.0.1:1",
  SUPABASE_PUBLISHABLE_KEYS: `{"default":"sb_publishable_x"}`,
  SUPABASE_SECRET_KEYS: `{"default":"sb_secret_x"}`,
};

Deno.test("readSettings() takes the new keys, else the older ones", () => {
  const { publishableKey, secretKey } = readSettings(MINIMUM);
  assert.deepEqual([publishableKey, secretKey], ["sb_publishable_x", "sb_secret_x"]);
  const older = readSettings({
    SUPABASE_URL: "http://127.0.0.1:1",
    SUPABASE_ANON_KEY: "anon",
    SUPABASE_SERVICE_ROLE_KEY: "service",
  });
  assert.deepEqual([older.publishableKey, older.secretKey], ["anon", "service"]);
});

Deno.test("readSettings() names what is missing", () => {
  const { SUPABASE_SECRET_KEYS: _, ...rest } = MINIMUM;
  assert.throws(() => readSettings(rest), /SUPABASE_SECRET_KEYS/);
});

Deno.test("readSettings() leaves ages to the database unless they are given", () => {
  assert.deepEqual(readSettings(MINIMUM).ages, {});
  const given = { ...MINIMUM, CROSSFADE_SOFT_AGE_MS: "100", CROSSFADE_HARD_AGE_MS: "soon" };
  assert.deepEqual(readSettings(given).ages, { softAgeMs: 100 });
});

Deno.test("readSettings() reads the end of V1 and the versions that are switched off", () => {
  const { serving } = readSettings({
    ...MINIMUM,
    V1_DEPRECATED_AT: "2026-01-01",
    V1_SUNSET_AT: "2026-12-31T23:59:59Z",
    CROSSFADE_DISABLED_VERSIONS: "2",
    CROSSFADE_RETIRED_VERSIONS: "",
  });
  assert.deepEqual(serving.deprecation, { deprecatedAt: 1_767_225_600, sunsetAt: 1_798_761_599 });
  assert.deepEqual(serving.disabledVersions, [2]);
  assert.deepEqual(serving.retiredVersions, []);
  const wrong = { ...MINIMUM, V1_DEPRECATED_AT: "2026-12-31", V1_SUNSET_AT: "2026-01-01" };
  assert.throws(() => readSettings(wrong), RangeError);
});

Deno.test("readSettings() counts requests unless told not to", () => {
  assert.ok(readSettings(MINIMUM).captureMetrics);
  assert.ok(!readSettings({ ...MINIMUM, CAPTURE_METRICS: "false" }).captureMetrics);
});

Deno.test("readCaller() reads the user of a token and refuses everything else", () => {
  assert.equal(readCaller(`Bearer ${tokenOf(USER.toUpperCase())}`).userId, USER);
  for (
    const header of [
      null,
      "",
      "Bearer sb_publishable_x",
      "Basic dXNlcg==",
      "Bearer a.b.c",
      `Bearer ${tokenOf("nobody")}`,
      tokenOf(USER),
    ]
  ) {
    assert.throws(() => readCaller(header), { type: "unauthorized", status: 401 }, String(header));
  }
});

Deno.test("readError() knows a refusal of the fence by its code", () => {
  const error = readError({
    code: "PT409",
    message: "V2 is fenced",
    details: `{"code":"CF_FENCED","pair":"chat_messages","flags_version":12}`,
  }, 409);
  assert.ok(error.fenced && error.refused);
  assert.equal(error.flagsVersion, 12);
});

Deno.test("readError() tells a refusal from an answer that never came", () => {
  const refused = (code: string, status: number) =>
    readError({ code, message: "" }, status).refused;
  assert.ok(refused("23505", 409));
  assert.ok(refused("PGRST205", 404));
  assert.ok(refused("57014", 500));
  assert.ok(!refused("", 0));
  assert.ok(!refused("", 502));
  assert.ok(!refused("502", 502));
});

Deno.test("loggable() tells codes and never what a user wrote", () => {
  const cause = {
    message: 'invalid input syntax for type uuid: "my secret"',
    details: "Failing row contains (1, my secret)",
    code: "22P02",
  };
  const refused = readError(cause, 400);
  assert.equal(loggable(refused), "StoreError 22P02, status 400");
  const problem = new Problem("invalid-message", {
    status: 422,
    detail: "my secret",
    cause: refused,
  });
  assert.equal(
    loggable(problem),
    "Problem invalid-message, status 422: StoreError 22P02, status 400",
  );
  const away = readError({ message: "TypeError: fetch failed" }, 0);
  assert.equal(loggable(away), "StoreError no code, status 0: TypeError: fetch failed");
  assert.equal(loggable(new SyntaxError('Unexpected token in "my secret"')), "SyntaxError");
  assert.equal(loggable("my secret"), "a thrown string");
  assert.ok(loggable(new TypeError("x is not a function")).startsWith("TypeError: x is not"));
});
