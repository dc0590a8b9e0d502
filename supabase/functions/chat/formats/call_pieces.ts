/**
 * Puts streamed calls together. Servers differ in what they say with each piece: an index or none, or
 * always 0; an id once, in every piece, or as "".
 *
 * @module
 */

import { canonical, isObject, type JsonObject } from "../adapters/changes/json.ts";
import { parseObject } from "../adapters/changes/storable.ts";
import { asText } from "./blocks.ts";
import { toObject } from "./format.ts";

interface Pieces {
  readonly index: unknown;
  id: string;
  name: string;
  text: string;
  /** All other keys of the call, and of what it calls. */
  rest: JsonObject;
  inner: JsonObject;
}

export class CallPieces {
  readonly #calls: Pieces[] = [];
  /** What is no call at all; kept, not lost. */
  readonly #others: unknown[] = [];

  add(pieces: unknown): void {
    for (const piece of Array.isArray(pieces) ? pieces : [pieces]) {
      if (isObject(piece)) this.#addPiece(piece);
      else if (piece !== null && piece !== undefined) this.#others.push(piece);
    }
  }

  /** Whether there are arguments of nothing: those of another call may be missing. */
  get isBroken(): boolean {
    return this.#calls.some(({ name, text }) => name === "" && text !== "");
  }

  whole(): unknown[] {
    const calls = this.#calls.map(({ id, name, text, rest, inner }) =>
      rest.type === "custom"
        ? { id, ...rest, custom: { ...inner, name, input: text } }
        : { id, ...rest, function: { ...inner, name, arguments: text } }
    );
    return [...calls, ...this.#others];
  }

  #addPiece({ index, id, function: asFunction, custom, ...rest }: JsonObject): void {
    const { name, arguments: given, input, ...inner } = toObject(custom ?? asFunction);
    const piece = { id: asText(id), name: asText(name), text: argumentText(given ?? input) };
    const call = this.#callOf(index, piece) ?? this.#begin(index);
    if (call.id === "") call.id = piece.id;
    // A name that is said again is the same one; a longer one comes in pieces.
    if (piece.name !== call.name) call.name += piece.name;
    call.text += piece.text;
    call.rest = { ...call.rest, ...rest };
    call.inner = { ...call.inner, ...inner };
  }

  #begin(index: unknown): Pieces {
    const call = { index, id: "", name: "", text: "", rest: {}, inner: {} };
    this.#calls.push(call);
    return call;
  }

  /** Returns the call that a piece belongs to; `undefined` when it begins one. */
  #callOf(index: unknown, { id, name, text }: Piece): Pieces | undefined {
    const byId = id === "" ? undefined : this.#calls.findLast((call) => call.id === id);
    if (byId !== undefined) return byId;
    const isPlaced = typeof index === "number";
    const call = isPlaced
      ? this.#calls.findLast((other) => other.index === index)
      : this.#calls.at(-1);
    if (call === undefined || (id !== "" && call.id !== "")) return undefined;
    if (name === "" || call.name === "") return call;
    // Another name is a piece of one only where the call is known by its id and has no more.
    if (name !== call.name) return call.id !== "" && call.text === "" ? call : undefined;
    // A call that has all of its arguments is over; the same name with others is the next one.
    return text !== "" && parseObject(call.text) !== undefined ? undefined : call;
  }
}

type Piece = Pick<Pieces, "id" | "name" | "text">;

function argumentText(given: unknown): string {
  return typeof given === "string" ? given : given == null ? "" : canonical(given);
}
