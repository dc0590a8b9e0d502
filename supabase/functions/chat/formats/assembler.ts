/**
 * Putting a streamed answer together, event by event, in the form that the same provider gives whole.
 *
 * @module
 */

import type { JsonObject } from "../adapters/changes/json.ts";
import type { Failure } from "./answer.ts";

/** Takes text as it arrives. @param block says which pieces are of one block */
export type Say = (block: string | number, piece: string) => void;

export interface Assembler {
  /** Takes the body of an event. Never throws, whatever it is. */
  add(event: JsonObject): void;
  /** Whether the answer has said how it ended. */
  readonly ended: boolean;
  /** Whether it told of an error. */
  readonly failed: boolean;
  /** Returns what was received as a whole answer. */
  whole(): JsonObject;
}

/** Returns a failure when one of the errors is one. */
export function failureOf(...errors: readonly unknown[]): { readonly failure?: Failure } {
  const isOne = errors.some((error) => error !== undefined && error !== null && error !== false);
  return isOne ? { failure: "model_error" } : {};
}

/** Returns the newer value if it is text, else the one before. */
export function lastText<T>(value: unknown, before: T): T | string {
  return typeof value === "string" ? value : before;
}

const BORDER = "\n\n";

/**
 * Tells a client text as V1 will show it: whole characters, and a blank line between two blocks.
 */
export class Teller {
  #block: string | number | undefined;
  #half = "";
  length = 0;
  readonly #onText: ((text: string) => void) | undefined;

  constructor(onText: ((text: string) => void) | undefined) {
    this.#onText = onText;
  }

  readonly say: Say = (block, piece) => {
    if (piece === "") return;
    if (this.#block !== undefined && this.#block !== block) {
      this.end();
      this.#tell(BORDER);
    }
    this.#block = block;
    const text = this.#half + piece;
    // Half of a character at the end waits for its other half.
    const isHalf = /[\ud800-\udbff]$/.test(text);
    this.#half = isHalf ? text.slice(-1) : "";
    this.#tell(isHalf ? text.slice(0, -1) : text);
  };

  /** Tells what was held back. */
  end(): void {
    const half = this.#half;
    this.#half = "";
    this.#tell(half);
  }

  #tell(text: string): void {
    if (text === "") return;
    this.length += text.length;
    this.#onText?.(text.replaceAll("\0", "\ufffd").toWellFormed());
  }
}
