/**
 * Hands a conversation to code that knows only one message format.
 *
 * @module
 */

import type { Version } from "../../../_shared/crossfade/contract.ts";
import type { Message } from "../../types.ts";
import { type Converter, convertRequest } from "../api_version_router.ts";

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
   * Lets an old function from conversation to message work on a V2 conversation.
   *
   * @param handler reads V1 messages and returns a V1 message
   */
  wrap(
    handler: (history: readonly Message[]) => Promise<Message>,
  ): (history: readonly Message[]) => Promise<Message> {
    return async (history) => {
      const answer = await handler(this.convert(history, { from: 2, to: 1 }));
      return convertRequest(this.#converter, answer, { from: 1, to: 2 });
    };
  }
}
