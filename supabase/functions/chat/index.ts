/**
 * Entry point: the only reader of the environment and the only caller of Deno.serve.
 *
 * @module
 */

import { listen } from "../_shared/crossfade/flags/broadcast.ts";
import { isTrue, readBootstrap } from "../_shared/crossfade/flags/environment.ts";
import { isolateMemory, RequestRecorder } from "../_shared/crossfade/serve/metrics.ts";
import { createFlags } from "./adapters/feature_flags.ts";
import { toV1, toV2 } from "./adapters/message_adapter.ts";
import { createApp } from "./app.ts";
import { readSettings } from "./settings.ts";
import { loggable } from "./loggable.ts";
import { operatorRpc } from "./operator_rpc.ts";
import { supabaseFeatures } from "./store/supabase_features.ts";
import { CrossfadeRpc, supabaseStore } from "./store/supabase_store.ts";
// Deployed with the function; `crossfade flags bundle` writes it.
import bundled from "./flags.json" with { type: "json" };

/** Present where Supabase runs the function. */
interface EdgeRuntime {
  waitUntil(work: Promise<unknown>): void;
}

function background(work: Promise<unknown>): void {
  const settled = work.catch((error: unknown) =>
    console.error("Background work failed", loggable(error))
  );
  const { EdgeRuntime: runtime } = globalThis as { EdgeRuntime?: EdgeRuntime };
  runtime?.waitUntil(settled);
}

const environment = Deno.env.toObject();
const settings = readSettings(environment);
const bootstrap = readBootstrap(environment, settings.pair, bundled);
for (const warning of bootstrap.warnings) console.warn(`Bootstrap: ${warning}`);

const rpc = new CrossfadeRpc(settings);
const flags = createFlags({
  database: rpc,
  bootstrap,
  background,
  captureExposures: settings.captureMetrics,
  ...settings.ages,
});
const onVersion = (version: unknown): void => flags.noteVersion(version);
const recorder = new RequestRecorder({
  database: rpc,
  background,
  onVersion,
  memory: isolateMemory,
});
const app = createApp({
  openStore: supabaseStore({ ...settings, onVersion }),
  openFeatures: supabaseFeatures({ ...settings, onVersion }),
  openOperator: operatorRpc(settings),
  converter: { toV1, toV2 },
  flags,
  recorder: settings.captureMetrics ? recorder : { record: () => {} },
  background,
  ...settings.app,
});

// The first request would wait for this read anyway.
flags.refreshNow();
if (isTrue(environment.CROSSFADE_BROADCAST)) {
  listen({ client: rpc.client, flags, log: (message, error) => console.warn(message, error) });
}
// Best effort: the platform does not promise that this event comes.
addEventListener("beforeunload", () => {
  void recorder.flush();
  void flags.exposures?.flush();
});

Deno.serve(app);
