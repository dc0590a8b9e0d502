/**
 * What the parts of the chat function hand to each other; the kit's own words.
 *
 * @module
 */

export type {
  Answer,
  Body,
  Call,
  Caller,
  Events,
  Fallback,
  Message,
} from "../_shared/crossfade/serve/call.ts";
