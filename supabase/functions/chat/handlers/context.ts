/**
 * A conversation as frameworks carry it from turn to turn: handed out whole, and taken back from clients
 * that kept their own.
 *
 * @module
 */

import { idempotentId } from "../../_shared/crossfade/serve/identity.ts";
import { serve } from "../../_shared/crossfade/serve/fallback.ts";
import { canonical } from "../../_shared/crossfade/serve/canonical.ts";
import { isUuid } from "../../_shared/crossfade/serve/claims.ts";
import { ContextCompatibility } from "../adapters/compatibility_layer.ts";
import { MessageError, withoutResidue } from "../adapters/message_adapter.ts";
import type { Answer, Call, Message } from "../types.ts";
import { invalid, isObject } from "./format.ts";
import { storeMessages } from "./messages.ts";
import type { Tools } from "./tools.ts";
import { V2 } from "./v2.ts";

const MOST_MESSAGES = 500;

/** `GET /chats/{id}/context` */
export async function readContext(call: Call, tools: Tools, id: string): Promise<Answer> {
  const layer = new ContextCompatibility(tools.converter);
  const { value: rows, ...served } = await stored(call, tools, id);
  const to = call.negotiated.version;
  const state = call.view.isEnabled("enable_state_management", call.context)
    ? (await tools.features.readState(id))?.state
    : undefined;
  const { context } = layer.fill({
    chat_id: id,
    user_id: call.caller.userId,
    agent_id: call.context.agent_id,
    messages: layer.convert(rows, { from: served.backend, to }),
    state,
  });
  return { status: 200, body: context, ...served };
}

/**
 * `POST /chats/{id}/context`: joins a conversation that a client kept, in either format and under older
 * names, with the stored one. Messages that are not stored yet are stored, all or none; those that are
 * stay as they are.
 */
export async function joinContext(call: Call, tools: Tools, id: string): Promise<Answer> {
  const layer = new ContextCompatibility(tools.converter);
  const { value: rows, backend } = await stored(call, tools, id);
  const kept = layer.convert(rows, { from: backend, to: 2 });
  const given = await named(call, id, layer.fill(call.body.value).context.messages);
  const known = new Set(kept.map((row) => row.id));
  const added = join(layer, given.filter((message) => !known.has(message.id)), []);
  const found = added.map((message) => pick(withoutResidue(message), id));
  const result = found.length === 0
    ? { backend }
    : await storeMessages(call, tools, found, { version: 2, first: backend });
  const shown = join(layer, added, kept);
  const messages = layer.convert(shown, { from: 2, to: call.negotiated.version });
  const { fellBack } = "fellBack" in result ? result : {};
  const body = { chat_id: id, added: found.length, messages };
  const fell = fellBack === undefined ? {} : { fellBack };
  return { status: 200, body, backend: result.backend, ...fell };
}

function stored(call: Call, { store }: Tools, chatId: string) {
  return serve(call, { kind: "read" }, async ({ backend }) => {
    const rows = await store.list(backend, { chatId, limit: MOST_MESSAGES, newest: true });
    return rows.toReversed();
  });
}

function join(layer: ContextCompatibility, old: readonly Message[], now: readonly Message[]) {
  try {
    return layer.merge({ messages: old }, { messages: now }).context.messages;
  } catch (error) {
    if (error instanceof MessageError) throw invalid(error.message);
    throw error;
  }
}

/** Gives messages without an id one that a repeated request gives them again. */
function named(call: Call, chatId: string, messages: readonly unknown[]): Promise<Message[]> {
  if (messages.length > MOST_MESSAGES) throw invalid(`More than ${MOST_MESSAGES} messages`);
  return Promise.all(messages.map(async (message, place) => {
    if (!isObject(message)) throw invalid(`Message ${place} is no object`);
    const { id } = message;
    if (isUuid(id)) return { ...message, id: id.toLowerCase() };
    if (id !== undefined && id !== null) throw invalid(`Message ${place} has an id that is none`);
    const name = `${chatId}:${place}:${canonical(message)}`;
    return { ...message, id: await idempotentId(call.caller.userId, name) };
  }));
}

/** What a client may set of a message, with its id, its chat and its place in time. */
function pick(message: Message, chatId: string): Message {
  const fields = V2.editable.filter((name) => message[name] !== undefined);
  const wrong = fields.find((name) => V2.check(name, message[name]) !== undefined);
  if (wrong !== undefined) throw invalid(`Field "${wrong}" ${V2.check(wrong, message[wrong])}`);
  const { id, created_at } = message;
  return {
    ...V2.defaults,
    ...{ model: null, usage: null, finish_reason: null },
    ...Object.fromEntries(fields.map((name) => [name, message[name]])),
    ...(typeof created_at === "string" ? { created_at } : {}),
    id,
    chat_id: chatId,
  };
}
