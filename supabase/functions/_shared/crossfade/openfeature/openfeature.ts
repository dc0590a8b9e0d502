/**
 * Flags in OpenFeature's terms: what the provider and the remote evaluation endpoint share.
 *
 * @module
 */

import type { Reason } from "../contract.ts";
import type { Context, Details } from "../flags/evaluate.ts";
import type { FlagsClient, View } from "../flags/flags_client.ts";
import { isRow, type Plan } from "../flags/snapshot.ts";

/** OpenFeature's codes of errors that can happen here. */
export type FlagErrorCode =
  | "FLAG_NOT_FOUND"
  | "TYPE_MISMATCH"
  | "INVALID_CONTEXT"
  | "PROVIDER_NOT_READY"
  | "PROVIDER_FATAL";

/** A flag that cannot be answered; OpenFeature's SDKs read `code`. */
export class FlagError extends Error {
  override readonly name = "FlagError";
  readonly code: FlagErrorCode;

  constructor(code: FlagErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** An answer that every client understands: always a variant, a standard reason, flat metadata. */
export interface Resolution {
  readonly value: boolean;
  readonly variant: "on" | "off";
  readonly reason: Reason | "CACHED";
  readonly flagMetadata: Readonly<Record<string, string | number | boolean>>;
}

const IDS = ["user_id", "agent_id", "conversation_id"] as const;

/**
 * Reads who is asked for: `user_id`, else `targetingKey`, and `agent_id`, `conversation_id`.
 *
 * Integers count as their decimal text; other attributes are not looked at.
 *
 * @throws {FlagError} INVALID_CONTEXT for an id that is neither text nor an exact integer, or that
 * holds a NUL character, which PostgreSQL's text cannot
 */
export function readContext(attributes: unknown): Context {
  if (attributes === undefined || attributes === null) return {};
  if (!isRow(attributes)) {
    throw new FlagError("INVALID_CONTEXT", "The evaluation context is not an object");
  }
  const context: { [key in typeof IDS[number]]?: string } = {};
  for (const name of IDS) {
    const id = readId(name, attributes[name]);
    if (id !== undefined) context[name] = id;
  }
  const key = readId("targetingKey", attributes.targetingKey);
  if (key !== undefined) context.user_id ??= key;
  return context;
}

function readId(name: string, value: unknown): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  const text = Number.isSafeInteger(value) ? String(value) : value;
  if (typeof text !== "string" || text.includes("\0")) {
    const what = typeof value === "string" ? "text with a NUL character" : typeof value;
    throw new FlagError("INVALID_CONTEXT", `Cannot evaluate: ${name} is ${what}; send text`);
  }
  return text;
}

/**
 * Answers one flag.
 *
 * @throws {FlagError} FLAG_NOT_FOUND, or PROVIDER_NOT_READY before the database has been read and
 * when nothing deployed with the function knows the flag either
 */
export function resolve(
  flags: FlagsClient,
  { view, name, context }: { view: View; name: string; context: Context },
): Resolution {
  if (!flags.knows(name)) {
    throw flags.isReady
      ? new FlagError("FLAG_NOT_FOUND", `There is no flag "${name}"`)
      : new FlagError("PROVIDER_NOT_READY", "The flags have not been read yet");
  }
  return resolution(flags, view, view.evaluate(name, context));
}

/**
 * Turns an evaluation into an answer.
 *
 * The engine's DEFAULT says that no rule before the last one applied. OpenFeature calls that STATIC
 * where there is no such rule, so that nobody's context could change the answer, and CACHED what a copy
 * says that should have been read again and could not be.
 */
export function resolution(
  flags: FlagsClient,
  view: View,
  { flag, value, variant, reason, metadata }: Details,
): Resolution {
  const told = reason === "STALE" || reason === "DISABLED"
    ? reason
    : flags.isBehind
    ? "CACHED"
    : reason === "DEFAULT" && isStatic(view.snapshot.plans.get(flag))
    ? "STATIC"
    : reason;
  return { value, variant, reason: told, flagMetadata: { ...metadata } };
}

function isStatic(plan: Plan | undefined): boolean {
  return plan !== undefined && !plan.allows && !plan.denies && plan.requires.length === 0 &&
    plan.flag.threshold === null;
}
