/**
 * The assistant's turn: reads the conversation, asks the model, runs its tools, stores the answer.
 *
 * @module
 */

import { Problem } from "../../_shared/crossfade/http/errors.ts";
import type { Version } from "../../_shared/crossfade/contract.ts";
import { type ReplyFeatures, replyFeatures } from "../adapters/feature_flags.ts";
import { isUuid } from "../../_shared/crossfade/serve/claims.ts";
import { type Conversation, converse, type Step, stepTurns } from "../features/conversation.ts";
import { newestFitting, readTurn } from "../features/history.ts";
import type { Failure, ModelAnswer } from "../formats/answer.ts";
import { type Model, type Turn, wordsOf } from "../model/model.ts";
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
  const turns = newestFitting(messages.map(readTurn));
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
  emit({ event: "text_delta", data: { text: wordsOf(readTurn(message)) } });
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
  const { model = null, finishReason } = step.answer;
  return stepTurns(step).map(async ({ role, content }, number) => {
    // Ids follow from the reply's, so that a repeated request makes the same rows.
    const name = number === 0 ? "calls" : `result:${number - 1}`;
    const said = number === 0 ? { model, finish_reason: finishReason } : {};
    return {
      ...{ model: null, usage: null, finish_reason: null, metadata: {}, status: "complete" },
      ...{ role, content, ...said },
      id: await idempotentId(call.caller.userId, `${id}:${place}:${name}`),
      chat_id: chatId,
    };
  });
}

/** The answer as a V2 message; storing converts it when V1 is the backend. */
function finalRow(
  { id, chatId }: Prepared,
  { final, notes, cancelled, usage }: Conversation,
): Message {
  return {
    model: final.model ?? "",
    usage: { ...usage, total_tokens: usage.input_tokens + usage.output_tokens },
    finish_reason: cancelled ? "cancelled" : final.finishReason,
    metadata: notes,
    status: cancelled ? "cancelled" : statusOf(final),
    ...(cancelled || final.failure === undefined ? {} : { error: errorOf(final.failure) }),
    role: "assistant",
    content: final.content,
    id,
    chat_id: chatId,
  };
}

/** What was cut, by whomever, is not whole. */
function statusOf({ outcome }: ModelAnswer): string {
  return ["filtered", "length", "paused", "failed"].includes(outcome) ? "incomplete" : "complete";
}

const FAILURES: Readonly<Record<Failure, string>> = {
  model_error: "The model broke off with an error",
  stream_ended: "The model's stream ended before its answer did",
  no_answer: "The model gave no answer",
  unreadable: "The model's answer cannot be read to its end",
  too_large: "The model's answer is too long",
  timeout: "The model did not finish in time",
};

function errorOf(code: Failure): Message {
  return { code, message: FAILURES[code], retryable: true };
}
