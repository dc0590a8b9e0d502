/**
 * The gate between a model and the database: nothing passes that PostgreSQL cannot store, and it is
 * passed before a tool runs. A row that cannot be stored must not be noticed after the deed.
 *
 * @module
 */

import { type JsonObject, own } from "../adapters/changes/json.ts";
import { cleaned } from "../adapters/changes/storable.ts";

/**
 * Returns blocks that can be stored: U+0000 and halves of characters become U+FFFD, what nests too
 * deep becomes text. A call whose arguments had to be changed is not what the model asked for: it is
 * marked and must not be run.
 */
export function storableBlocks(blocks: readonly JsonObject[]): readonly JsonObject[] {
  return blocks.map((block) => {
    const clean = cleaned(block) as JsonObject;
    if (clean === block || block.type !== "tool_call") return clean;
    const isChanged = ["name", "input", "arguments_raw"].some((key) =>
      own(clean, key) !== own(block, key)
    );
    if (!isChanged) return clean;
    return { ...clean, state: "error", error: "The arguments hold what cannot be stored" };
  });
}
