/**
 * Flags as the chat function uses them.
 *
 * @module
 */

import type { Context } from "../../_shared/crossfade/flags/evaluate.ts";
import {
  FlagsClient,
  type FlagsOptions,
  type View,
} from "../../_shared/crossfade/flags/flags_client.ts";

export { FlagsClient };
export { KillSwitch } from "../../_shared/crossfade/flags/kill_switch.ts";
export type { FlagsOptions, View };

/** Features of a reply, decided once per request so that one reply never mixes two states. */
export interface ReplyFeatures {
  readonly memory: boolean;
  readonly state: boolean;
  readonly tools: boolean;
  readonly parallelTools: boolean;
  readonly caching: boolean;
  readonly compression: boolean;
  readonly streaming: boolean;
}

/** Evaluates the flags of a reply for one caller. */
export function replyFeatures(view: View, context: Context): ReplyFeatures {
  return {
    memory: view.isEnabled("enable_memory_system", context),
    state: view.isEnabled("enable_state_management", context),
    tools: view.isEnabled("use_new_tool_framework", context),
    parallelTools: view.isEnabled("enable_parallel_tools", context),
    caching: view.isEnabled("enable_caching", context),
    compression: view.isEnabled("enable_context_compression", context),
    streaming: view.isEnabled("enable_streaming_responses", context),
  };
}

/** Flags of the migration itself, which are on unless somebody has switched them off. */
export type MigrationFlag =
  | "maintain_dual_write"
  | "auto_migrate_messages"
  | "enable_compatibility_mode";

/**
 * Returns whether a flag of the migration has not been switched off.
 *
 * Only a row of the database switches one off. What an emergency, an old copy or a missing row says
 * about features does not count here: it must never take V1's clients or rows away.
 */
export function isKept(view: View, name: MigrationFlag, context: Context): boolean {
  if (view.snapshot.origin !== "database") return true;
  const { value, metadata } = view.evaluate(name, context);
  return value || metadata.rule === "unknown" || metadata.rule === "stale" ||
    metadata.rule === "kill_switch";
}

/** Makes the flags client of an isolate. */
export function createFlags(options: FlagsOptions): FlagsClient {
  return new FlagsClient(options);
}
