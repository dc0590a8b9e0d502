/**
 * What a function shares with all its requests in one isolate: settings, flags, metrics, rows.
 *
 * @module
 */

import { type OwnFlags, readBootstrap } from "../flags/environment.ts";
import { FlagsClient } from "../flags/flags_client.ts";
import { RpcDatabase } from "../flags/rpc_database.ts";
import { callerHash, type HashCaller } from "./caller_hash.ts";
import { loggable } from "./loggable.ts";
import { isolateMemory, RequestRecorder } from "./metrics.ts";
import type { OpenRows } from "./rows.ts";
import { restRows } from "./rows.ts";
import { type Environment, readSettings, type Settings } from "./settings.ts";

export interface ProjectOptions {
  /** What `crossfade flags bundle` wrote; it is deployed with the function. */
  readonly bundled?: unknown;
  /** Flags that variables may set. */
  readonly own?: OwnFlags;
}

/** Spread into createCrossfadeFunction. */
export type Project = Settings["serving"] & {
  readonly settings: Settings;
  readonly flags: FlagsClient;
  readonly recorder: Pick<RequestRecorder, "record">;
  readonly openRows: OpenRows;
  readonly hashCaller: HashCaller;
  readonly background: (work: Promise<unknown>) => void;
};

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

/**
 * Prepares an isolate and begins to read the flags, for which its first request would wait anyway.
 *
 * @throws {Error} naming a variable without which the function cannot work
 */
export function openProject(environment: Environment, options: ProjectOptions = {}): Project {
  const settings = readSettings(environment);
  const bootstrap = readBootstrap(environment, options.own, options.bundled);
  for (const warning of bootstrap.warnings) console.warn(`Bootstrap: ${warning}`);
  const database = new RpcDatabase(settings);
  const { captureMetrics } = settings;
  const log = (message: string, error: unknown): void => console.error(message, loggable(error));
  const flags = new FlagsClient({
    ...{ database, bootstrap, background, captureExposures: captureMetrics, log },
    ...settings.ages,
  });
  const onVersion = (version: unknown): void => flags.noteVersion(version);
  const recorder = new RequestRecorder({
    ...{ database, background, onVersion, log },
    ...{ memory: isolateMemory, bundleVersion: bootstrap.bundleVersion },
  });
  flags.refreshNow();
  // Best effort: the platform does not promise that this event comes.
  addEventListener("beforeunload", () => {
    void recorder.flush();
    void flags.exposures?.flush();
  });
  return {
    ...settings.serving,
    settings,
    flags,
    recorder: captureMetrics ? recorder : { record: () => {} },
    openRows: restRows({ ...settings, onVersion }),
    hashCaller: callerHash(settings.secretKey),
    background,
  };
}
