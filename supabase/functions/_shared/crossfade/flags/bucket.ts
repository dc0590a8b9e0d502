/**
 * The fixed number 0..99999 of (cohort key, unit) that decides who is inside a percentage.
 *
 * @module
 */

const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;
const encoder = new TextEncoder();

/** The hash of a cohort key and its colon, so that only the unit is hashed per evaluation. */
export interface BucketSeed {
  readonly cohortKey: string;
  /** State after the whole blocks of four bytes. */
  readonly hash: number;
  /** The bytes after them, lowest first, and how many bits they are. */
  readonly tail: number;
  readonly tailBits: number;
  /** Bytes in all. */
  readonly length: number;
}

function mix(word: number): number {
  const k = Math.imul(word, C1);
  return Math.imul((k << 15) | (k >>> 17), C2);
}

function absorb(hash: number, word: number): number {
  const mixed = hash ^ mix(word);
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0;
}

function finish(hash: number, tail: number, length: number): number {
  let h = hash ^ mix(tail) ^ length;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function seedOf(bytes: Uint8Array): Omit<BucketSeed, "cohortKey"> {
  const whole = bytes.length & ~3;
  const at = (i: number): number => bytes[i] ?? 0;
  let hash = 0;
  for (let i = 0; i < whole; i += 4) {
    hash = absorb(hash, at(i) | (at(i + 1) << 8) | (at(i + 2) << 16) | (at(i + 3) << 24));
  }
  // Bytes past the end read as 0, as the definition wants.
  const tail = at(whole) | (at(whole + 1) << 8) | (at(whole + 2) << 16);
  return { hash, tail, tailBits: (bytes.length - whole) * 8, length: bytes.length };
}

/** Returns murmur3_x86_32 of the UTF-8 bytes of `text` with seed 0; lone surrogates become U+FFFD. */
export function murmur3(text: string): number {
  const { hash, tail, length } = seedOf(encoder.encode(text));
  return finish(hash, tail, length);
}

/** Prepares a cohort key for many units. */
export function bucketSeed(cohortKey: string): BucketSeed {
  return { cohortKey, ...seedOf(encoder.encode(`${cohortKey}:`)) };
}

function place(hash: number): number {
  return (hash % 100) * 1000 + Math.floor(hash / 100) % 1000;
}

/**
 * Returns the bucket 0..99999 of `unit` in a prepared cohort.
 *
 * The whole percent comes from the hash modulo 100, so whole percentages agree with Unleash; the
 * three decimals come from the digits above. It never changes, so a growing percentage drops nobody.
 */
export function bucketOf(seed: BucketSeed, unit: string): number {
  const { tailBits: bits } = seed;
  const length = unit.length;
  const whole = length & ~3;
  let { hash, tail } = seed;
  let seen = 0;
  let i = 0;
  for (; i < whole; i += 4) {
    const a = unit.charCodeAt(i);
    const b = unit.charCodeAt(i + 1);
    const c = unit.charCodeAt(i + 2);
    const d = unit.charCodeAt(i + 3);
    seen |= a | b | c | d;
    const word = a | (b << 8) | (c << 16) | (d << 24);
    hash = absorb(hash, tail | (word << bits));
    // A shift by 32 would be one by 0.
    tail = bits === 0 ? 0 : word >>> (32 - bits);
  }
  let filled = bits;
  for (; i < length; i++) {
    const code = unit.charCodeAt(i);
    seen |= code;
    tail |= code << filled;
    filled += 8;
    if (filled === 32) {
      hash = absorb(hash, tail);
      tail = 0;
      filled = 0;
    }
  }
  // One code unit is one byte only in ASCII; ids in other alphabets take the way over their bytes.
  if (seen > 127) return place(murmur3(`${seed.cohortKey}:${unit}`));
  return place(finish(hash, tail, seed.length + length));
}
