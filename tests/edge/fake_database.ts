/**
 * The functions the edge calls, answered by the test.
 *
 * @module
 */

import type { FlagsDatabase } from "../../supabase/functions/_shared/crossfade/flags/flags_options.ts";
import { flagsAnswer, type Rows } from "./builders.ts";

export class FakeDatabase implements FlagsDatabase {
  version = 1;
  rows: Rows;
  /** Thrown instead of an answer. */
  failure: Error | undefined;
  /** Holds answers back until `release`. */
  held = false;
  readonly reads: (number | null)[] = [];
  readonly batches: unknown[][] = [];
  readonly exposures: unknown[][] = [];
  #waiting: (() => void)[] = [];

  constructor(rows: Rows = {}) {
    this.rows = rows;
  }

  async readFlags(knownVersion: number | null): Promise<unknown> {
    this.reads.push(knownVersion);
    const answer = this.#answer(knownVersion);
    await this.#hold();
    if (this.failure !== undefined) throw this.failure;
    return answer;
  }

  async recordRequests(batch: readonly unknown[]): Promise<unknown> {
    this.batches.push([...batch]);
    await this.#hold();
    if (this.failure !== undefined) throw this.failure;
    return { recorded: batch.length, flags_version: this.version };
  }

  async recordExposures(batch: readonly unknown[]): Promise<unknown> {
    this.exposures.push([...batch]);
    await this.#hold();
    if (this.failure !== undefined) throw this.failure;
    return { recorded: batch.length, ignored: 0, flags_version: this.version };
  }

  release(): void {
    this.held = false;
    for (const go of this.#waiting.splice(0)) go();
  }

  #answer(known: number | null): unknown {
    if (known === this.version) return { flags_version: known, unchanged: true };
    return flagsAnswer(this.version, this.rows);
  }

  #hold(): Promise<void> {
    return this.held ? new Promise((go) => this.#waiting.push(go)) : Promise.resolve();
  }
}
