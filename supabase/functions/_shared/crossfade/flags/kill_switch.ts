/**
 * Code that wants to know when a kill switch is engaged or released.
 *
 * @module
 */

import type { Snapshot } from "./snapshot.ts";

/**
 * Called with the switch's new state, once per change that this isolate sees. A handler that throws
 * or rejects is logged and keeps nobody else from hearing.
 */
export type KillSwitchHandler = (engaged: boolean, name: string) => unknown;

/** Registry of handlers; one per flags client. */
export class KillSwitch {
  readonly #handlers = new Map<string, Set<KillSwitchHandler>>();
  readonly #log: (message: string, error: unknown) => void;
  #engaged: ReadonlySet<string> = new Set();

  constructor(log: (message: string, error: unknown) => void = () => {}) {
    this.#log = log;
  }

  /**
   * Calls `handler` whenever the switch changes, and at once if it is engaged already.
   *
   * @returns a function that takes the handler away
   */
  register(name: string, handler: KillSwitchHandler): () => void {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    if (this.#engaged.has(name)) this.#call(handler, name, true);
    return () => void handlers.delete(handler);
  }

  /** Returns whether the switch is engaged as far as this isolate knows. */
  isEngaged(name: string): boolean {
    return this.#engaged.has(name);
  }

  /** Compares with the last snapshot and calls the handlers of what changed. */
  update(snapshot: Snapshot): void {
    const before = this.#engaged;
    this.#engaged = new Set(
      [...snapshot.killSwitches.values()].filter((row) => row.engaged).map((row) => row.name),
    );
    for (const [name, handlers] of this.#handlers) {
      const engaged = this.#engaged.has(name);
      if (engaged === before.has(name)) continue;
      // A copy: a handler that registers another one must not have it called twice.
      for (const handler of [...handlers]) {
        if (handlers.has(handler)) this.#call(handler, name, engaged);
      }
    }
  }

  #call(handler: KillSwitchHandler, name: string, engaged: boolean): void {
    // One handler's fault must not keep the others from hearing of an emergency.
    const failed = (error: unknown): void =>
      this.#log(`Kill switch handler of "${name}" failed`, error);
    try {
      Promise.resolve(handler(engaged, name)).catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}
