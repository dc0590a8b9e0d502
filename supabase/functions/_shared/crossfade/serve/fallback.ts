/**
 * Runs an operation on the chosen backend and, where that is safe, on backend 1 after it failed.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import { isOver } from "../flags/choose_backend.ts";
import { Problem } from "../http/errors.ts";
import type { Call, Fallback } from "./call.ts";
import { ConversionError } from "./convert.ts";
import { StoreError } from "../http/store_error.ts";

/** One try of an operation on one backend. */
export interface Attempt {
  readonly backend: Version;
  /** Set by the operation once a statement that changes rows has been answered. */
  wrote: boolean;
}

/**
 * How an operation behaves when it is carried out twice: a `read` changes nothing, a `create` has
 * its id beforehand so a second one finds the first, a `change` could undo somebody else's.
 */
export type Kind = "read" | "create" | "change";

export interface Served<T> {
  readonly value: T;
  readonly backend: Version;
  readonly fellBack?: Fallback;
}

export interface ServeOptions {
  readonly kind: Kind;
  /** Backend to begin with, when an earlier part of the request has fallen back already. */
  readonly first?: Version;
}

/**
 * Runs `operation`; answers from backend 1 when backend 2 failed before it changed anything.
 *
 * @throws {Problem} 503 for what V1 may not answer because it may be an archive by now
 */
export async function serve<T>(
  call: Call,
  options: ServeOptions,
  operation: (attempt: Attempt) => Promise<T>,
): Promise<Served<T>> {
  const backend = options.first ?? call.choice.backend;
  if (backend === 1 && call.choice.unsure === true && options.kind !== "create") throw unsure();
  const attempt: Attempt = { backend, wrote: false };
  try {
    return { value: await operation(attempt), backend };
  } catch (error) {
    const other = alternative(call, options, attempt, error);
    if (other === undefined) throw error;
    return await retry(operation, other, error);
  }
}

/**
 * Nobody knows whether V1 is an archive: it must not answer, and V2 may not be open yet.
 *
 * A new row may be offered to V1 all the same, because an archive refuses it.
 */
function unsure(): Problem {
  const detail = "Where this is served from cannot be read now; try again";
  return new Problem("upstream-unavailable", {
    status: 503,
    detail,
    headers: { "Retry-After": "1" },
  });
}

async function retry<T>(
  operation: (attempt: Attempt) => Promise<T>,
  backend: Version,
  cause: unknown,
): Promise<Served<T>> {
  const value = await operation({ backend, wrote: false }).catch((error: unknown) => {
    // Backend 1's answer is the true one when the client is at fault; otherwise the first failure.
    throw isClientFault(error) ? error : cause;
  });
  if (backend === 2) return { value, backend };
  const missing = cause instanceof Problem && cause.type === "not-found";
  return { value, backend, fellBack: { fenced: isFenced(cause), missing, cause } };
}

/** Returns the backend to try next, or `undefined` when the failure is final. */
function alternative(
  call: Call,
  { kind }: ServeOptions,
  attempt: Attempt,
  error: unknown,
): Version | undefined {
  // An isolate that has not heard of the end of V1 yet learns it from the refusal.
  if (attempt.backend === 1) {
    return error instanceof StoreError && error.archived ? 2 : undefined;
  }
  const stage = call.view.snapshot.pairs.get(call.pair)?.stage;
  if (isOver(stage)) return undefined;
  // The next stage makes an archive of V1, and this isolate hears of it a little later.
  if (stage === "rampdown" && kind === "read" && !isFenced(error)) return undefined;
  if (attempt.wrote && kind === "change") return undefined;
  return isWorthASecondTry(call, kind, error) ? 1 : undefined;
}

function isWorthASecondTry(call: Call, kind: Kind, error: unknown): boolean {
  if (error instanceof Problem) {
    // A row that backend 2 lacks may be waiting for repair after a failed mirror write.
    return error.type === "not-found";
  }
  if (!(error instanceof StoreError)) return true;
  if (error.fenced) return true;
  // The first insert may be running still, and its mirror waits for the very row that a second one
  // would insert: PostgreSQL would end one of them by a deadlock error.
  if (error.timedOut && kind === "create") return false;
  if (error.status === 401 || error.code === "23503") return false;
  // Input in V2's own format that V2 refuses is the client's fault; converted input is ours.
  if (error.invalid) return call.body.version === 1;
  return error.refused || kind !== "change";
}

function isFenced(error: unknown): boolean {
  return error instanceof StoreError && error.fenced;
}

function isClientFault(error: unknown): boolean {
  if (error instanceof Problem) return error.status < 500;
  if (error instanceof ConversionError) return true;
  return error instanceof StoreError &&
    (error.status === 401 || error.invalid || error.duplicate || error.code === "23503" ||
      error.code === "42501");
}
