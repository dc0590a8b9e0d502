/**
 * The fixed number 0..99999 of (cohort key, unit) that decides who is inside a percentage.
 *
 * @module
 */

const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;
const encoder = new TextEncoder();

// Reused between calls: an isolate runs one evaluation at a time, and ids are short.
const ascii = new Uint8Array(512);

/** Returns the bytes of `text` in UTF-8; lone surrogates become U+FFFD. */
function utf8(text: string): Uint8Array {
  const length = text.length;
  if (length > ascii.length) return encoder.encode(text);
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 127) return encoder.encode(text);
    ascii[i] = code;
  }
  return ascii.subarray(0, length);
}

function mix(word: number): number {
  const k = Math.imul(word, C1);
  return Math.imul((k << 15) | (k >>> 17), C2);
}

/** Returns murmur3_x86_32 of the UTF-8 bytes of `text` with seed 0, as an unsigned number. */
export function murmur3(text: string): number {
  const bytes = utf8(text);
  const length = bytes.length;
  const whole = length & ~3;
  const at = (i: number): number => bytes[i] ?? 0;
  let hash = 0;
  for (let i = 0; i < whole; i += 4) {
    hash ^= mix(at(i) | (at(i + 1) << 8) | (at(i + 2) << 16) | (at(i + 3) << 24));
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  if (length > whole) {
    // Bytes past the end read as 0, as the definition wants; `ascii` is longer than its view.
    let tail = at(whole);
    if (length > whole + 1) tail |= at(whole + 1) << 8;
    if (length > whole + 2) tail |= at(whole + 2) << 16;
    hash ^= mix(tail);
  }
  hash ^= length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Returns the bucket 0..99999 of `unit` in the cohort `cohortKey`.
 *
 * The whole percent comes from the hash modulo 100, so whole percentages agree with Unleash; the
 * three decimals come from the digits above. It never changes, so a growing percentage drops nobody.
 */
export function bucket(cohortKey: string, unit: string): number {
  const hash = murmur3(`${cohortKey}:${unit}`);
  return (hash % 100) * 1000 + Math.floor(hash / 100) % 1000;
}
