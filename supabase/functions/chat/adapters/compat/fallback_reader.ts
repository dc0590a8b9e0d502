/**
 * Reads a row from one version and, where that does not work out, from the other one.
 *
 * @module
 */

import type { Version } from "../../../_shared/crossfade/contract.ts";
import type { Message } from "../../types.ts";
import { type Converter, convertResponse } from "../api_version_router.ts";

/** Why a row came from the other version: it was `missing` here, or reading it was an `error`. */
export type FallbackReason = "missing" | "error";

/** Returns a row of one version; `undefined` when there is none. */
export type ReadRow = (id: string) => Promise<Message | undefined>;

export interface ReadRowResult {
  /** In the format that was asked for, whichever version it came from. */
  readonly message: Message;
  readonly version: Version;
  readonly fallback?: FallbackReason;
}

export class FallbackReader {
  readonly #readers: Readonly<Record<Version, ReadRow>>;
  readonly #converter: Converter;
  readonly #counts: Record<FallbackReason, number> = { missing: 0, error: 0 };

  constructor(readers: Readonly<Record<Version, ReadRow>>, converter: Converter) {
    this.#readers = readers;
    this.#converter = converter;
  }

  /** How often a row came from the other version, by reason, since this isolate began. */
  get counts(): Readonly<Record<FallbackReason, number>> {
    return { ...this.#counts };
  }

  /**
   * Returns a row; `undefined` when neither version has it.
   *
   * @param options.prefer version to read first
   * @param options.as format of the answer
   * @throws what reading the preferred version threw, when the other one does not have the row
   */
  async read(
    id: string,
    { prefer, as }: { readonly prefer: Version; readonly as: Version },
  ): Promise<ReadRowResult | undefined> {
    let failure: { readonly error: unknown } | undefined;
    try {
      const row = await this.#readers[prefer](id);
      if (row !== undefined) return { message: this.#show(row, prefer, as), version: prefer };
    } catch (error) {
      failure = { error };
    }
    const other = prefer === 1 ? 2 : 1;
    const row = await this.#readers[other](id).catch((error: unknown) => {
      // The first failure says more: it is of the version that should have answered.
      throw failure === undefined ? error : failure.error;
    });
    if (row === undefined) {
      if (failure !== undefined) throw failure.error;
      return undefined;
    }
    const fallback = failure === undefined ? "missing" : "error";
    this.#counts[fallback] += 1;
    return { message: this.#show(row, other, as), version: other, fallback };
  }

  #show(row: Message, from: Version, to: Version): Message {
    return convertResponse(this.#converter, row, { from, to });
  }
}
