/**
 * How each provider is asked: where, with which key, and in which words.
 *
 * @module
 */

import type { JsonObject } from "../adapters/changes/json.ts";
import { anthropic } from "./anthropic.ts";
import type { Exported } from "./export.ts";
import type { ToolFormat } from "./format.ts";
import { openaiChat } from "./openai_chat.ts";
import { openaiResponses } from "./openai_responses.ts";

/** A conversation and what may be done with it, in the words of a provider. */
export interface Question extends Pick<Exported, "messages" | "system"> {
  readonly model: string;
  readonly tools: readonly JsonObject[];
  readonly parallelTools: boolean;
  readonly isStream: boolean;
}

export interface Provider {
  readonly format: ToolFormat;
  /** Behind the base address, which ends with the version. */
  readonly path: string;
  /** Whether it refuses a conversation in which the model speaks first. */
  readonly beginsWithUser: boolean;
  readonly headers: (key: string) => Readonly<Record<string, string>>;
  readonly body: (question: Question) => JsonObject;
}

function bearer(key: string): Readonly<Record<string, string>> {
  return { Authorization: `Bearer ${key}` };
}

/** Has to be said, and no model answers a chat with more. */
const MOST_TOKENS = 8_192;

export const PROVIDERS = {
  openai_chat: {
    format: openaiChat,
    path: "/chat/completions",
    beginsWithUser: false,
    headers: bearer,
    body: ({ model, messages, tools, parallelTools, isStream }) => ({
      model,
      messages,
      ...(tools.length === 0 ? {} : { tools, parallel_tool_calls: parallelTools }),
      ...(isStream ? { stream: true, stream_options: { include_usage: true } } : {}),
    }),
  },
  openai_responses: {
    format: openaiResponses,
    path: "/responses",
    beginsWithUser: false,
    headers: bearer,
    body: ({ model, messages, tools, parallelTools, isStream }) => ({
      model,
      input: messages,
      // The conversation is kept here and nowhere else, so its reasoning has to come along.
      store: false,
      include: ["reasoning.encrypted_content"],
      ...(tools.length === 0 ? {} : { tools, parallel_tool_calls: parallelTools }),
      ...(isStream ? { stream: true } : {}),
    }),
  },
  anthropic: {
    format: anthropic,
    path: "/messages",
    beginsWithUser: true,
    headers: (key) => ({ "X-API-Key": key, "Anthropic-Version": "2023-06-01" }),
    body: ({ model, messages, system, tools, parallelTools, isStream }) => ({
      model,
      max_tokens: MOST_TOKENS,
      ...(system.length === 0 ? {} : { system }),
      messages,
      ...(tools.length === 0
        ? {}
        : { tools, tool_choice: { type: "auto", disable_parallel_tool_use: !parallelTools } }),
      ...(isStream ? { stream: true } : {}),
    }),
  },
} as const satisfies Readonly<Record<string, Provider>>;

export type ProviderName = keyof typeof PROVIDERS;
