/**
 * All version changes in order. A third version is one new file and one new line.
 *
 * @module
 */

import type { Change } from "./change.ts";
import { contentBlocks } from "./0001_content_blocks.ts";

export const CHANGES: readonly Change[] = [contentBlocks];
