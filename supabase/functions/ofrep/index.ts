/**
 * Remote evaluation of flags (OFREP): the only reader of the environment here and the only caller of
 * Deno.serve. Clients take `<project>/functions/v1` as their base URL.
 *
 * @module
 */

import { recognise } from "../_shared/crossfade/http/callers.ts";
import { isTrue, readBootstrap } from "../_shared/crossfade/flags/environment.ts";
import { FlagsClient, systemClock } from "../_shared/crossfade/flags/flags_client.ts";
import { readAges, readKey, required } from "../_shared/crossfade/serve/function_settings.ts";
import { createOfrep } from "../_shared/crossfade/openfeature/ofrep.ts";
import { RpcDatabase } from "../_shared/crossfade/flags/rpc_database.ts";
// Deployed with the function; `crossfade flags bundle` writes it.
import bundled from "./flags.json" with { type: "json" };

/** Present where Supabase runs the function. */
interface EdgeRuntime {
  waitUntil(work: Promise<unknown>): void;
}

function background(work: Promise<unknown>): void {
  const settled = work.catch((error: unknown) => console.error("Background work failed", error));
  const { EdgeRuntime: runtime } = globalThis as { EdgeRuntime?: EdgeRuntime };
  runtime?.waitUntil(settled);
}

const environment = Deno.env.toObject();
const url = required(environment, "SUPABASE_URL");
const secretKey = readKey(environment, "SUPABASE_SECRET_KEYS", "SUPABASE_SERVICE_ROLE_KEY");
const publishableKey = readKey(environment, "SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_ANON_KEY");
const bootstrap = readBootstrap(environment, environment.CROSSFADE_PAIR || undefined, bundled);
for (const warning of bootstrap.warnings) console.warn(`Bootstrap: ${warning}`);

const flags = new FlagsClient({
  database: new RpcDatabase({ url, secretKey }),
  bootstrap,
  background,
  captureExposures: isTrue(environment.CAPTURE_METRICS ?? "true"),
  ...readAges(environment),
});
const trustedKeys = [secretKey, ...(environment.OFREP_API_KEYS ?? "").split(",")]
  .map((key) => key.trim()).filter((key) => key !== "");
const authorize = recognise({ url, publishableKey, trustedKeys, clock: systemClock });

// The first request would wait for this read anyway.
flags.refreshNow();
// Best effort: the platform does not promise that this event comes.
addEventListener("beforeunload", () => void flags.exposures?.flush());

Deno.serve(createOfrep({ flags, authorize }));
