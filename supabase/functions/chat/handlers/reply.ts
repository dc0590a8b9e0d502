/**
 * The assistant's turn: reads the conversation, asks the model, runs its tools, stores the answer.
 *
 * @module
 */

import { Problem } from "../../_shared/crossfade/http/errors.ts";
import type { Version } from "../../_shared/crossfade/contract.ts";
import { type ReplyFeatures, replyFeatures } from "../adapters/feature_flags.ts";
import { isUuid } from "../../_shared/crossfade/serve/claims.ts";
import { type Conversation, converse, type Step } from "../features/conversation.ts";
import { newestFitting, pairUp, readTurn } from "../features/history.ts";
import type { Model, Turn } from "../model/model.ts";
import { serve } from "../../_shared/crossfade/serve/fallback.ts";
import type { StreamEvent } from "../../_shared/crossfade/http/sse.ts";
import { idempotentId, newId } from "../../_shared/crossfade/serve/identity.ts";
import type { Answer, Call, Message } from "../types.ts";
import { wantsStream } from "../adapters/stream_adapter.ts";
import { invalid } from "./format.ts";
import { storeMessages } from "./messages.ts";
import { type Tools, toWire } from "./tools.ts";

const LONGEST_HISTORY = 50;

/** All that the turn is made from, read before anything is answered. */
interface Prepared {
  readonly id: string;
  readonly chatId: string;
  readonly turns: readonly Turn[];
  readonly features: ReplyFeatures;
  readonly read: Pick<Answer, "fellBack"> & { readonly backend: Version };
  /** The reply that an earlier try of this request has stored. */
  readonly existing?: Message;
}

/** Tells the client of progress. */
type Emit = (event: StreamEvent) => void;

/** `POST /reply`: JSON, or a stream of events when that is asked for and its flag is on. */
export async function reply(call: Call, tools: Tools, model: Model): Promise<Answer> {
  const prepared = await prepare(call, tools);
  if (!prepared.features.streaming || !wantsStream(call.request.headers, call.body.value)) {
    return await answer(call, tools, { prepared, model, emit: () => {} });
  }
  return {
    status: 200,
    backend: prepared.read.backend,
    events: (emit, signal) => answer(call, tools, { prepared, model, emit, signal }),
  };
}

async function prepare(call: Call, tools: Tools): Promise<Prepared> {
  const chatId = call.body.value.chat_id;
  if (!isUuid(chatId)) throw invalid(`Field "chat_id" is not an id`);
  const id = await newId(call);
  const features = replyFeatures(call.view, call.context);
  const repeated = call.request.headers.has("x-idempotency-key") || call.body.value.id != null;
  const { value, ...read } = await serve(
    call,
    { kind: "read" },
    async ({ backend }) => {
      const [rows, existing] = await Promise.all([
        tools.store.list(backend, { chatId, limit: LONGEST_HISTORY, newest: true }),
        repeated ? tools.store.get(backend, id) : undefined,
      ]);
      return { rows, existing };
    },
  );
  if (value.existing !== undefined && value.existing.chat_id !== chatId) {
    const detail = `Message "${id}" exists already in another chat`;
    throw new Problem("conflict", { status: 409, detail });
  }
  const messages = value.rows.toReversed()
    .map((row) => read.backend === 1 ? tools.converter.toV2(row) : row);
  const turns = pairUp(newestFitting(messages.map(readTurn)));
  const existing = value.existing === undefined ? {} : { existing: value.existing };
  return { id, chatId, turns, features, read, ...existing };
}

interface Answering {
  readonly prepared: Prepared;
  readonly model: Model;
  readonly emit: Emit;
  readonly signal?: AbortSignal;
}

async function answer(
  call: Call,
  tools: Tools,
  { prepared, model, emit, signal }: Answering,
): Promise<Answer> {
  const { id, chatId, features, read, existing } = prepared;
  emit({
    event: "message_start",
    data: { api_version: "2", id, chat_id: chatId, role: "assistant" },
  });
  if (existing !== undefined) return finished(call, tools, { row: existing, prepared, emit });
  const made = await converse(call, tools, {
    ...{ id, chatId, turns: prepared.turns, features, model },
    backend: read.backend,
    emit,
    ...(signal === undefined ? {} : { signal }),
  });
  const rows = await Promise.all(
    made.steps.flatMap((step, place) => stepRows(call, prepared, { step, place })),
  );
  const stored = await storeMessages(
    call,
    tools,
    [...rows, finalRow(prepared, made)],
    { version: 2, first: read.backend },
  );
  const fellBack = stored.fellBack ?? read.fellBack;
  emit({ event: "message_complete", data: { message: stored.value.asV2 } });
  return {
    status: 201,
    body: stored.value.wire,
    backend: stored.backend,
    modelMs: made.modelMs,
    ...(fellBack === undefined ? {} : { fellBack }),
  };
}

function finished(
  call: Call,
  tools: Tools,
  { row, prepared, emit }: { row: Message; prepared: Prepared; emit: Emit },
): Answer {
  const { backend, fellBack } = prepared.read;
  const message = backend === 1 ? tools.converter.toV2(row) : row;
  emit({ event: "text_delta", data: { text: readTurn(message).text } });
  emit({ event: "message_complete", data: { message } });
  const body = toWire(call, tools, row, backend);
  return { status: 201, body, backend, ...(fellBack === undefined ? {} : { fellBack }) };
}

/** The rows of one round of tools: the assistant's calls, then one row for each result. */
function stepRows(
  call: Call,
  { id, chatId }: Prepared,
  { step, place }: { readonly step: Step; readonly place: number },
): Promise<Message>[] {
  const { completion, outcomes } = step;
  const { user_id: userId } = { user_id: call.caller.userId };
  // Ids follow from the reply's, so that a repeated request makes the same rows.
  const make = async (name: string, fields: Message): Promise<Message> => ({
    ...{ model: null, usage: null, finish_reason: null, metadata: {}, status: "complete" },
    ...fields,
    id: await idempotentId(userId, `${id}:${place}:${name}`),
    chat_id: chatId,
  });
  const text = completion.text === "" ? [] : [{ type: "text", text: completion.text }];
  const calls = outcomes.map(({ call: made, input, output, isError }) => ({
    type: "tool_call",
    tool_call_id: made.id,
    name: made.name,
    input,
    // The exact text is kept where it says more than the object read from it.
    ...(input === null || JSON.stringify(input) !== made.arguments
      ? { arguments_raw: made.arguments }
      : {}),
    state: isError ? "error" : "complete",
    executor: "server",
    ...(isError ? { error: String(output) } : {}),
  }));
  return [
    make("calls", {
      role: "assistant",
      content: [...text, ...calls],
      model: completion.model,
      finish_reason: completion.finishReason,
    }),
    ...outcomes.map(({ call: made, output, isError }, number) =>
      make(`result:${number}`, {
        role: "tool",
        content: [{
          type: "tool_result",
          tool_call_id: made.id,
          name: made.name,
          output,
          is_error: isError,
        }],
      })
    ),
  ];
}

/** The answer as a V2 message; storing converts it when V1 is the backend. */
function finalRow(
  { id, chatId }: Prepared,
  { final, notes, cancelled, usage }: Conversation,
): Message {
  return {
    model: final.model,
    usage: { ...usage, total_tokens: usage.input_tokens + usage.output_tokens },
    finish_reason: cancelled ? "cancelled" : final.finishReason,
    metadata: notes,
    status: cancelled ? "cancelled" : "complete",
    role: "assistant",
    content: [{ type: "text", text: final.text }],
    id,
    chat_id: chatId,
  };
}
