/**
 * A model behind an endpoint of a provider, or of a server that speaks like one, asked once: no
 * retries, and within a time limit.
 *
 * @module
 */

import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { isToRun, type ModelAnswer } from "../formats/answer.ts";
import { exportConversation } from "../formats/export.ts";
import { exportTools, namesOf } from "../formats/formats.ts";
import { readBody } from "../formats/read_answer.ts";
import type { ToolNames } from "../formats/names.ts";
import { type Provider, type ProviderName, PROVIDERS } from "../formats/requests.ts";
import type { JsonObject } from "../adapters/changes/json.ts";
import type { Model, ModelRequest } from "./model.ts";

export interface EndpointOptions {
  /** Base address, up to and including the version: `/chat/completions`, say, is added. */
  readonly url: string;
  /** Whose words it speaks. @defaultValue `openai_chat` */
  readonly provider?: ProviderName;
  readonly key?: string;
  readonly name: string;
  /** Longest wait for the whole answer. @defaultValue 60000 */
  readonly timeoutMs?: number;
}

/** Returns a model that asks an endpoint; it streams when pieces are wanted. */
export function endpointModel(options: EndpointOptions): Model {
  const provider: Provider = PROVIDERS[options.provider ?? "openai_chat"];
  const url = options.url.replace(/\/$/, "") + provider.path;
  const headers = {
    "Content-Type": "application/json",
    ...(options.key === undefined ? {} : provider.headers(options.key)),
  };
  return async (request) => {
    const limit = AbortSignal.timeout(options.timeoutMs ?? 60_000);
    const signal = request.signal === undefined ? limit : AbortSignal.any([limit, request.signal]);
    const calls = request.turns.flatMap(({ content }) => content.filter(isToRun));
    const names = namesOf(request.tools, calls);
    const body = JSON.stringify(bodyOf(request, { provider, names, model: options.name }));
    const response = await fetch(url, { method: "POST", headers, body, signal })
      .catch((cause: unknown) => {
        throw unavailable(cause);
      });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw unavailable(new Error(`The model answered ${response.status}`));
    }
    const isStream = /^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "");
    const answer = await readBody(response.body, { isStream, names, onText: request.onText });
    // Half an answer is one; nothing at all is none, and may be asked for again.
    if (isNothing(answer)) throw unavailable(new Error(`The model's answer: ${answer.failure}`));
    return { model: options.name, ...answer };
  };
}

function isNothing({ outcome, content }: ModelAnswer): boolean {
  return outcome === "failed" && content.length === 0;
}

function unavailable(cause: unknown): Problem {
  const detail = "The model did not answer; try again";
  const after = { "Retry-After": "5" };
  return new Problem("upstream-unavailable", { status: 503, detail, headers: after, cause });
}

interface Asking {
  readonly provider: Provider;
  readonly names: ToolNames;
  readonly model: string;
}

function bodyOf(
  { turns, tools, parallelTools, onText }: ModelRequest,
  { provider: { format, body, beginsWithUser }, names, model }: Asking,
): JsonObject {
  // A window over a conversation cuts calls from their results; a string is read by every server.
  const policy = { names, orphans: "drop", joinTexts: true } as const;
  const first = beginsWithUser ? turns.findIndex(({ role }) => role === "user") : 0;
  const told = turns.filter(({ role }, place) => place >= first || role === "system");
  const { messages, system } = exportConversation(
    format,
    told.map((turn) => ({ ...turn })),
    policy,
  );
  return body({
    ...{ model, messages, system, parallelTools },
    tools: exportTools(format, tools, names),
    isStream: onText !== undefined,
  });
}
