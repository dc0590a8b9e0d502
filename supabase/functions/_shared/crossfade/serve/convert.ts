/**
 * Conversion of rows between the formats, with failures that say whose they are.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import type { Message } from "./call.ts";

/** The two directions of a pair; the second argument is the stored counterpart. */
export interface Converter {
  toV2(row: Message, base?: Message): Message;
  toV1(row: Message, base?: Message): Message;
}

/** From which format into which, and what is stored in the target format already. */
export interface Conversion {
  readonly from: Version;
  readonly to: Version;
  readonly base?: Message | undefined;
}

/** A row that a converter threw at: one row's doing, and so one caller's. */
export class ConversionError extends Error {
  override readonly name = "ConversionError";
  readonly from: Version;

  constructor({ from, to }: Conversion, cause: unknown) {
    super(`Cannot convert a row of version ${from} to version ${to}`, { cause });
    this.from = from;
  }
}

/** Converts a row. @throws {ConversionError} */
export function convert(converter: Converter, row: Message, conversion: Conversion): Message {
  const { from, to, base } = conversion;
  if (from === to) return row;
  try {
    return to === 2 ? converter.toV2(row, base) : converter.toV1(row, base);
  } catch (cause) {
    throw new ConversionError(conversion, cause);
  }
}
