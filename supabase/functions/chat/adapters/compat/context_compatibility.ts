/**
 * Hands a conversation to code that knows only one format, and joins what both sides know of it.
 *
 * @module
 */

import type { Version } from "../../../_shared/crossfade/contract.ts";
import type { Message } from "../../types.ts";
import { type Converter, convertRequest } from "../api_version_router.ts";
import { copy, isObject, own } from "../changes/json.ts";
import { mergeMessageHistories } from "../message_adapter.ts";

/** What a framework carries from turn to turn. Other keys are passed on. */
export interface ConversationContext extends Message {
  readonly chat_id: string | null;
  readonly user_id: string | null;
  readonly agent_id: string | null;
  readonly messages: readonly Message[];
  /** Where the conversation stands. */
  readonly state: Message;
  /** What is remembered beyond it. */
  readonly memory: Message;
}

/** A context with every field, and the names of those that were not there. */
export interface FilledContext {
  readonly context: ConversationContext;
  readonly missing: readonly string[];
}

/** Names that older frameworks use, the first that is there counts. */
const OLD_NAMES: Readonly<Record<string, readonly string[]>> = {
  chat_id: ["session_id", "conversation_id", "thread_id"],
  user_id: [],
  agent_id: ["assistant_id"],
  messages: ["history"],
  state: ["variables"],
  memory: ["memories"],
};

const CHECKS: Readonly<Record<string, (value: unknown) => boolean>> = {
  messages: Array.isArray,
  state: isObject,
  memory: isObject,
};

const DEFAULTS: ConversationContext = {
  chat_id: null,
  user_id: null,
  agent_id: null,
  messages: [],
  state: {},
  memory: {},
};

function isText(value: unknown): boolean {
  return typeof value === "string";
}

export class ContextCompatibility {
  readonly #converter: Converter;

  constructor(converter: Converter) {
    this.#converter = converter;
  }

  /** Returns the conversation in another format, message by message and in the same order. */
  convert(
    history: readonly Message[],
    { from, to }: { readonly from: Version; readonly to: Version },
  ): readonly Message[] {
    return history.map((message) => convertRequest(this.#converter, message, { from, to }));
  }

  /**
   * Returns a context with every field. Never throws: what is absent, or is nothing that its field
   * could be, gets a default and is named.
   */
  fill(given: unknown): FilledContext {
    const context: Record<string, unknown> = isObject(given) ? { ...given } : {};
    const missing: string[] = [];
    for (const [field, oldNames] of Object.entries(OLD_NAMES)) {
      const isUsable = CHECKS[field] ?? isText;
      const name = [field, ...oldNames].find((key) => isUsable(own(given, key)));
      if (name === undefined) missing.push(field);
      context[field] = name === undefined ? DEFAULTS[field] : own(given, name);
      for (const old of oldNames) delete context[old];
    }
    return { context: copy(context) as ConversationContext, missing };
  }

  /**
   * Joins what an old and a new framework know of one conversation.
   *
   * Messages are merged as histories are. In state and memory each key of the new side wins, also
   * with null: that is how it forgets. Every other field is the new side's where it has one.
   *
   * @throws {MessageError} naming the first message that is in neither format
   */
  merge(old: unknown, current: unknown, { to = 2 }: { readonly to?: Version } = {}) {
    const [before, after] = [this.fill(old), this.fill(current)];
    const known = Object.entries(after.context)
      .filter(([field, value]) => !after.missing.includes(field) && value !== undefined);
    const context: ConversationContext = {
      ...before.context,
      ...Object.fromEntries(known),
      messages: mergeMessageHistories(before.context.messages, after.context.messages, { to }),
      state: { ...before.context.state, ...after.context.state },
      memory: { ...before.context.memory, ...after.context.memory },
    };
    const missing = before.missing.filter((field) => after.missing.includes(field));
    return { context, missing };
  }
}
