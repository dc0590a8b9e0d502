/**
 * The assistant's turn: reads the conversation, asks the model, stores the answer.
 *
 * @module
 */

import { type ReplyFeatures, replyFeatures } from "../adapters/feature_flags.ts";
import type { Version } from "../../_shared/crossfade/contract.ts";
import { isUuid } from "../claims.ts";
import type { Completion, Model, Turn } from "../model.ts";
import { serve } from "../serving.ts";
import type { Answer, Call, Message } from "../types.ts";
import { invalid, isObject } from "./format.ts";
import { newId, storeMessage } from "./messages.ts";
import type { Tools } from "./tools.ts";

const LONGEST_HISTORY = 50;
const COMPRESSED_HISTORY = 8;

/** `POST /reply` */
export async function reply(call: Call, tools: Tools, model: Model): Promise<Answer> {
  const chatId = call.body.value.chat_id;
  if (!isUuid(chatId)) throw invalid(`Field "chat_id" is not an id`);
  const features = replyFeatures(call.view, call.context);
  const limit = LONGEST_HISTORY;
  const read = await serve(
    call,
    { pair: tools.pair, kind: "read" },
    ({ backend }) => tools.store.list(backend, { chatId, limit, newest: true }),
  );
  const history = read.value.toReversed().map((row) => readTurn(row, read.backend));
  const asked = performance.now();
  const completion = await model(shape(history, features));
  const modelMs = performance.now() - asked;
  const message = assistantMessage(completion, features, history);
  const stored = await storeMessage(
    call,
    tools,
    { ...message, id: await newId(call), chat_id: chatId },
    { version: 2, first: read.backend },
  );
  const fellBack = stored.fellBack ?? read.fellBack;
  return {
    status: 201,
    body: stored.value,
    backend: stored.backend,
    modelMs,
    ...(fellBack === undefined ? {} : { fellBack }),
  };
}

/** Chooses what of the conversation the model gets to see. */
export function shape(history: readonly Turn[], features: ReplyFeatures): readonly Turn[] {
  const remembered = features.memory ? history : history.slice(-1);
  return features.compression ? remembered.slice(-COMPRESSED_HISTORY) : remembered;
}

function readTurn(row: Message, backend: Version): Turn {
  const role = String(row.role);
  if (backend === 1) return { role, text: String(row.content) };
  const blocks = Array.isArray(row.content) ? row.content.filter(isObject) : [];
  const texts = blocks.filter((block) => block.type === "text").map((block) => String(block.text));
  return { role, text: texts.join("\n\n") };
}

/** The answer as a V2 message; storing converts it when V1 is the backend. */
function assistantMessage(
  { text, model, usage, finishReason }: Completion,
  features: ReplyFeatures,
  history: readonly Turn[],
): Message {
  return {
    role: "assistant",
    status: "complete",
    content: [{ type: "text", text }],
    metadata: features.state ? { state: { turn: history.length + 1 } } : {},
    model,
    usage: { ...usage, total_tokens: usage.input_tokens + usage.output_tokens },
    finish_reason: finishReason,
  };
}
