/**
 * Flags as the chat function uses them.
 *
 * @module
 */

import type { Context } from "../../_shared/crossfade/flags/evaluate.ts";
import type { OwnFlags } from "../../_shared/crossfade/flags/environment.ts";
import { mayWriteV2 as mirrored } from "../../_shared/crossfade/serve/lossless.ts";
import type { Call } from "../types.ts";
import type { View } from "../../_shared/crossfade/flags/flags_client.ts";

/** Seeded flags and the kill switches that stop them. */
export const FLAGS: Readonly<Record<string, readonly string[]>> = {
  use_advanced_messages: ["disable_v2_messages"],
  enable_memory_system: ["disable_memory_system"],
  enable_state_management: ["disable_state_management"],
  use_new_tool_framework: ["disable_new_tools"],
  enable_streaming_responses: [],
  maintain_dual_write: [],
  auto_migrate_messages: [],
  enable_compatibility_mode: [],
  enable_caching: [],
  enable_parallel_tools: [],
  enable_context_compression: [],
};

/** Seeded kill switches: whether they fence V2 writes, and whether they override every flag. */
export const KILL_SWITCHES: Readonly<
  Record<string, { readonly fences: boolean; readonly overrides_all: boolean }>
> = {
  disable_v2_messages: { fences: true, overrides_all: false },
  disable_memory_system: { fences: false, overrides_all: false },
  disable_state_management: { fences: false, overrides_all: false },
  disable_new_tools: { fences: false, overrides_all: false },
  emergency_rollback: { fences: true, overrides_all: true },
};

/** Bootstrap variables: the flag each one sets, and whether `true` switches it on or off. */
export const ENVIRONMENT_FLAGS: Readonly<Record<string, readonly [string, "on" | "off"]>> = {
  USE_ADVANCED_MESSAGES: ["use_advanced_messages", "on"],
  ENABLE_MEMORY_SYSTEM: ["enable_memory_system", "on"],
  ENABLE_STATE_MANAGEMENT: ["enable_state_management", "on"],
  USE_NEW_TOOL_FRAMEWORK: ["use_new_tool_framework", "on"],
  ENABLE_STREAMING: ["enable_streaming_responses", "on"],
  DISABLE_DUAL_WRITE: ["maintain_dual_write", "off"],
  DISABLE_AUTO_MIGRATE: ["auto_migrate_messages", "off"],
  DISABLE_COMPATIBILITY: ["enable_compatibility_mode", "off"],
  ENABLE_CACHING: ["enable_caching", "on"],
  ENABLE_PARALLEL_TOOLS: ["enable_parallel_tools", "on"],
  ENABLE_CONTEXT_COMPRESSION: ["enable_context_compression", "on"],
};

/** What the environment may say of chat's flags before the database has been read. */
export const CHAT: OwnFlags = {
  pair: "chat_messages",
  gate: { flag: "use_advanced_messages", variable: "USE_ADVANCED_MESSAGES" },
  flags: FLAGS,
  variables: ENVIRONMENT_FLAGS,
};

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

/** Returns whether what V1 cannot hold may go to V2 although backend 1 serves. */
export function mayWriteV2(call: Call): boolean {
  return isKept(call.view, "maintain_dual_write", call.context) && mirrored(call);
}
