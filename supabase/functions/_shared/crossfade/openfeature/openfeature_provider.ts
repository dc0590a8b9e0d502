/**
 * A provider for `@openfeature/server-sdk` over the flags of this isolate.
 *
 * It has the form of the SDK's `Provider` and imports nothing of it.
 *
 * @module
 */

import type { FlagsClient, View } from "../flags/flags_client.ts";
import { FlagError, readContext, type Resolution, resolve } from "./openfeature.ts";
import { ProviderEvents } from "./provider_events.ts";
import type { Plan, Snapshot } from "../flags/snapshot.ts";

/**
 * Answers OpenFeature clients from the copy of the flags, by the rules of `evaluate.ts`.
 *
 * Flags are boolean: another type is answered with the caller's default and TYPE_MISMATCH. Errors
 * are thrown with OpenFeature's `code`, which the SDK turns into details with the default.
 */
export class CrossfadeProvider {
  readonly metadata = { name: "crossfade" } as const;
  readonly runsOn = "server";
  readonly events = new ProviderEvents();
  readonly #flags: FlagsClient;
  #status: "starting" | "unread" | "ready" | "stale" | "fatal" = "starting";
  #leave: () => void = () => {};

  constructor(flags: FlagsClient) {
    this.#flags = flags;
  }

  /**
   * Waits for the first read.
   *
   * @throws {FlagError} PROVIDER_NOT_READY if it failed, PROVIDER_FATAL if it was refused; PROVIDER_READY
   * follows when one succeeds
   */
  async initialize(): Promise<void> {
    this.#leave();
    this.#leave = this.#flags.subscribe((now, before) => this.#changed(now, before));
    this.#status = "starting";
    await this.#flags.view();
    // The SDK says PROVIDER_READY or PROVIDER_ERROR for us when this ends.
    this.#status = this.#flags.isReady ? "ready" : "unread";
    if (this.#status === "unread") {
      const code = this.#flags.failure?.isFatal === true ? "PROVIDER_FATAL" : "PROVIDER_NOT_READY";
      throw new FlagError(code, "Cannot read the flags from the database");
    }
  }

  onClose(): Promise<void> {
    this.#leave();
    this.#leave = () => {};
    this.#status = "starting";
    return Promise.resolve();
  }

  async resolveBooleanEvaluation(
    name: string,
    _default: boolean,
    attributes: unknown,
  ): Promise<Resolution> {
    const context = readContext(attributes);
    const view = await this.#flags.view();
    this.#notice(view);
    return resolve(this.#flags, { view, name, context });
  }

  resolveStringEvaluation(name: string): Promise<never> {
    return this.#mismatch(name, "a string");
  }

  resolveNumberEvaluation(name: string): Promise<never> {
    return this.#mismatch(name, "a number");
  }

  resolveObjectEvaluation(name: string): Promise<never> {
    return this.#mismatch(name, "an object");
  }

  async #mismatch(name: string, wanted: string): Promise<never> {
    const view = await this.#flags.view();
    resolve(this.#flags, { view, name, context: {} });
    throw new FlagError("TYPE_MISMATCH", `Flag "${name}" is a boolean and not ${wanted}`);
  }

  /** Says when the copy grows too old, and when it is young again: seen at an evaluation only. */
  #notice(view: View): void {
    const { failure } = this.#flags;
    const status = !view.stale ? "ready" : failure?.isFatal === true ? "fatal" : "stale";
    if (this.#status === "starting" || this.#status === "unread" || status === this.#status) return;
    this.#status = status;
    if (status === "ready") return this.events.emit("PROVIDER_READY");
    const message = "The flags could not be read for longer than their hard age";
    if (status === "stale") return this.events.emit("PROVIDER_STALE", { message });
    this.events.emit("PROVIDER_ERROR", { message, errorCode: "PROVIDER_FATAL" });
  }

  #changed(now: Snapshot, before: Snapshot): void {
    const status = this.#status;
    if (status === "starting") return;
    this.#status = "ready";
    if (status !== "ready") this.events.emit("PROVIDER_READY");
    const flagsChanged = changedFlags(now, before);
    if (status === "unread" || flagsChanged.length === 0) return;
    this.events.emit("PROVIDER_CONFIGURATION_CHANGED", { flagsChanged });
  }
}

/** Returns the flags that may answer differently than before, sorted. */
export function changedFlags(now: Snapshot, before: Snapshot): string[] {
  const names = new Set([...now.plans.keys(), ...before.plans.keys()]);
  const same = (name: string): boolean =>
    fingerprint(now.plans.get(name)) === fingerprint(before.plans.get(name));
  return [...names].filter((name) => !same(name)).toSorted();
}

function fingerprint(plan: Plan | undefined, depth = 0): string {
  if (plan === undefined) return "";
  const { flag, killSwitch, requires } = plan;
  const plain = (_key: string, value: unknown): unknown =>
    value instanceof Set ? [...value] : value;
  const others = depth === 0 ? requires.map((other) => fingerprint(other, 1)) : [];
  return JSON.stringify([flag, killSwitch, others], plain);
}
