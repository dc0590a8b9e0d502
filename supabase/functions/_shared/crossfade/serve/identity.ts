/**
 * The id of a new message, known before the first try to store it.
 *
 * @module
 */

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
