/**
 * What the assistant's writer gets and gives, whoever it is.
 *
 * @module
 */

import type { JsonObject } from "../adapters/changes/json.ts";
import { BORDER, textOf } from "../adapters/changes/text.ts";
import type { ModelAnswer } from "../formats/answer.ts";
import type { ToolDefinition } from "../formats/format.ts";

/** One earlier message: a stored one, or what the function adds itself. */
export interface Turn {
  readonly role: string;
  /** Blocks of a V2 message. */
  readonly content: readonly JsonObject[];
  /** Id of the stored message; absent for what the function adds itself. */
  readonly id?: string;
}

export interface ModelRequest {
  readonly turns: readonly Turn[];
  readonly tools: readonly ToolDefinition[];
  /** Whether several tools may be called in one turn. */
  readonly parallelTools: boolean;
  /** Ends the work when the client has gone. */
  readonly signal?: AbortSignal;
  /** Called with each piece of text as it arrives; absent when nobody waits for pieces. */
  readonly onText?: (text: string) => void;
}

/** @throws {Problem} 503 if the model does not answer; an answer that broke off is one */
export type Model = (request: ModelRequest) => Promise<ModelAnswer>;

/** A turn of words. */
export function saying(role: string, text: string): Turn {
  return { role, content: [{ type: "text", text }] };
}

/** Returns the words of a turn, as a client of V1 reads them. */
export function wordsOf({ role, content }: Omit<Turn, "id">): string {
  return content.map((block) => textOf(block, "content", role))
    .filter((text) => text !== undefined).join(BORDER);
}
