/**
 * Remote evaluation of flags (OFREP): the only reader of the environment here and the only caller of
 * Deno.serve. Clients take `<project>/functions/v1` as their base URL.
 *
 * @module
 */

import { systemClock } from "../_shared/crossfade/flags/clock.ts";
import { recognise } from "../_shared/crossfade/http/callers.ts";
import { createOfrep } from "../_shared/crossfade/openfeature/ofrep.ts";
import { openProject } from "../_shared/crossfade/serve/project.ts";
// Deployed with the function; `crossfade flags bundle` writes it.
import bundled from "./flags.json" with { type: "json" };

const environment = Deno.env.toObject();
const { settings, flags } = openProject(environment, { bundled });
const trustedKeys = [settings.secretKey, ...(environment.OFREP_API_KEYS ?? "").split(",")]
  .map((key) => key.trim()).filter((key) => key !== "");
const authorize = recognise({ ...settings, trustedKeys, clock: systemClock });

Deno.serve(createOfrep({ flags, authorize }));
