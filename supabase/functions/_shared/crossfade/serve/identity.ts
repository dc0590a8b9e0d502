/**
 * The id of a new row, known before the first try to store it.
 *
 * @module
 */

import { Problem } from "../http/errors.ts";
import type { Call } from "./call.ts";
import { isUuid } from "./claims.ts";

// Namespace of our version 5 ids (RFC 9562): made once, never changed, or retries stop matching.
const NAMESPACE = "8c6f6a0e-5d1b-4f43-9d5e-0f9a3c1b7e21";

/**
 * Returns the id that every retry with the same key gets.
 *
 * The user is part of the name, so two users may use the same key.
 */
export async function idempotentId(userId: string, key: string): Promise<string> {
  const name = new TextEncoder().encode(`${userId}:${key}`);
  const space = hexBytes(NAMESPACE.replaceAll("-", ""));
  const input = new Uint8Array(space.length + name.length);
  input.set(space);
  input.set(name, space.length);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-1", input)).slice(0, 16);
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x50;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [8, 12, 16, 20, 32].map((end, i, ends) => hex.slice(ends[i - 1] ?? 0, end)).join("-");
}

function hexBytes(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Returns the id that X-Idempotency-Key stands for; `undefined` without that header. */
export async function repeatableId({ request, caller }: Call): Promise<string | undefined> {
  const key = request.headers.get("x-idempotency-key");
  if (key === null) return undefined;
  if (key === "" || key.length > 255) {
    const detail = "X-Idempotency-Key is empty or longer than 255 characters";
    throw new Problem("invalid-body", { status: 400, detail });
  }
  return await idempotentId(caller.userId, key);
}

/** Returns the id of a new row: the idempotency key's, the client's, or a fresh one. */
export async function newId(call: Call): Promise<string> {
  const repeatable = await repeatableId(call);
  if (repeatable !== undefined) return repeatable;
  const { id } = call.body.value;
  if (id === undefined || id === null) return crypto.randomUUID();
  if (!isUuid(id)) {
    throw new Problem("invalid-message", { status: 422, detail: `Field "id" is not an id` });
  }
  return id.toLowerCase();
}
