/**
 * Entry point: the only reader of the environment and the only caller of Deno.serve.
 *
 * @module
 */

import { createClient } from "@supabase/supabase-js";
import { listen } from "../_shared/crossfade/flags/broadcast.ts";
import { isTrue } from "../_shared/crossfade/flags/environment.ts";
import { operatorRpc } from "../_shared/crossfade/serve/operator_rpc.ts";
import { openProject } from "../_shared/crossfade/serve/project.ts";
import { CHAT } from "./adapters/feature_flags.ts";
import { toV1, toV2 } from "./adapters/message_adapter.ts";
import { createApp } from "./app.ts";
import { readModel } from "./model/settings.ts";
import { supabaseFeatures } from "./store/supabase_features.ts";
import { supabaseStore } from "./store/supabase_store.ts";
// Deployed with the function; `crossfade flags bundle` writes it.
import bundled from "./flags.json" with { type: "json" };

const environment = Deno.env.toObject();
const own = { ...CHAT, pair: environment.CROSSFADE_PAIR || CHAT.pair };
const project = openProject(environment, { own, bundled });
const { settings, flags } = project;
const store = { ...settings, onVersion: (version: unknown) => flags.noteVersion(version) };

if (isTrue(environment.CROSSFADE_BROADCAST)) {
  const accessToken = () => Promise.resolve(null);
  const client = createClient(settings.url, settings.secretKey, { accessToken });
  listen({ client, flags, log: (message, error) => console.warn(message, error) });
}

// Loaded where it is wanted only.
const checking = isTrue(environment.CROSSFADE_VERIFY_TOKENS)
  ? { checkToken: (await import("../_shared/crossfade/serve/jwks.ts")).checkByJwks(settings) }
  : {};

Deno.serve(createApp({
  ...project,
  pair: own.pair,
  openStore: supabaseStore(store),
  openFeatures: supabaseFeatures(store),
  openOperator: operatorRpc(settings),
  converter: { toV1, toV2 },
  compatibilityOff: isTrue(environment.DISABLE_COMPATIBILITY),
  ...readModel(environment),
  ...checking,
}));
