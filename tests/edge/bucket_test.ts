import assert from "node:assert/strict";
import {
  bucketOf,
  bucketSeed,
  murmur3,
} from "../../supabase/functions/_shared/crossfade/flags/bucket.ts";
import { readVectors } from "./vectors.ts";

for (const { name, input, expect } of readVectors("bucket").cases) {
  Deno.test(`bucketOf() ${name}`, () => {
    const [key, unit] = [String(input.cohort_key), String(input.unit)];
    const hash = murmur3(`${key}:${unit}`);
    assert.deepEqual(
      { hash, unleash: hash % 100 + 1, bucket: bucketOf(bucketSeed(key), unit) },
      expect,
    );
  });
}

Deno.test("murmur3() hashes texts longer than its buffer like shorter ones", () => {
  // 512 ASCII letters fit the buffer, 513 go through the encoder.
  for (const length of [507, 508, 509, 510, 511, 512, 513, 600]) {
    const text = "x".repeat(length);
    assert.equal(murmur3(text), reference(new TextEncoder().encode(text)));
  }
});

Deno.test("bucketOf() spreads ids evenly and never drops one when the percentage grows", () => {
  const seed = bucketSeed("chat-v2");
  const ids = Array.from({ length: 20_000 }, (_, i) => `user-${i}`);
  const inside = (percentage: number) =>
    new Set(ids.filter((id) => bucketOf(seed, id) < percentage * 1000));
  const [five, quarter, most] = [inside(5), inside(25), inside(75)];
  assert.ok([...five].every((id) => quarter.has(id)));
  assert.ok([...quarter].every((id) => most.has(id)));
  assert.ok(Math.abs(five.size / ids.length - 0.05) < 0.01);
  assert.ok(Math.abs(most.size / ids.length - 0.75) < 0.01);
});

/** The definition of murmur3_x86_32, word by word with BigInt: slow and easy to read. */
function reference(bytes: Uint8Array): number {
  const mask = 0xffffffffn;
  const rotate = (value: bigint, by: bigint) => ((value << by) | (value >> (32n - by))) & mask;
  const scramble = (word: bigint) => rotate((word * 0xcc9e2d51n) & mask, 15n) * 0x1b873593n & mask;
  let hash = 0n;
  const whole = bytes.length - bytes.length % 4;
  const word = (from: number, to: number) =>
    bytes.slice(from, to).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  for (let i = 0; i < whole; i += 4) {
    hash = (rotate(hash ^ scramble(word(i, i + 4)), 13n) * 5n + 0xe6546b64n) & mask;
  }
  hash ^= scramble(word(whole, bytes.length)) ^ BigInt(bytes.length);
  hash = ((hash ^ (hash >> 16n)) * 0x85ebca6bn) & mask;
  hash = ((hash ^ (hash >> 13n)) * 0xc2b2ae35n) & mask;
  return Number(hash ^ (hash >> 16n));
}
