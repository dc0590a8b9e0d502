/**
 * The events of an OpenFeature provider, without the SDK: functions that do not use OpenFeature
 * need not install it.
 *
 * @module
 */

export interface EventDetails {
  readonly message?: string;
  readonly errorCode?: string;
  readonly flagsChanged?: string[];
}

// The SDK's handlers want more than a provider knows; the SDK's own emitter adds it for them.
// deno-lint-ignore no-explicit-any
type Handler = (details?: any) => unknown;

/** What is used of the SDK's logger. */
interface Logger {
  error(...args: unknown[]): void;
}

/** Has the form of the SDK's `ProviderEventEmitter`. */
export class ProviderEvents {
  readonly #handlers = new Map<string, Handler[]>();
  #logger: Logger = console;

  emit(event: string, details: EventDetails = {}): void {
    for (const handler of this.getHandlers(event)) {
      const failed = (error: unknown): void => this.#logger.error(`${event} handler failed`, error);
      try {
        Promise.resolve(handler(details)).catch(failed);
      } catch (error) {
        failed(error);
      }
    }
  }

  addHandler(event: string, handler: Handler): void {
    this.#handlers.set(event, [...this.getHandlers(event), handler]);
  }

  removeHandler(event: string, handler: Handler): void {
    this.#handlers.set(event, this.getHandlers(event).filter((other) => other !== handler));
  }

  removeAllHandlers(event?: string): void {
    if (event === undefined) this.#handlers.clear();
    else this.#handlers.delete(event);
  }

  getHandlers(event: string): Handler[] {
    return [...this.#handlers.get(event) ?? []];
  }

  setLogger(logger: Logger): this {
    this.#logger = logger;
    return this;
  }
}
