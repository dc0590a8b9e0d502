/**
 * All formats of tools, and tools read in one of them.
 *
 * @module
 */

import { anthropic } from "../../supabase/functions/chat/formats/anthropic.ts";
import {
  put,
  type ToolDefinition,
  type ToolFormat,
} from "../../supabase/functions/chat/formats/format.ts";
import { namesOf } from "../../supabase/functions/chat/formats/formats.ts";
import { legacy } from "../../supabase/functions/chat/formats/legacy.ts";
import { newFormat } from "../../supabase/functions/chat/formats/new.ts";
import { openaiChat } from "../../supabase/functions/chat/formats/openai_chat.ts";
import { openaiResponses } from "../../supabase/functions/chat/formats/openai_responses.ts";

type Row = Readonly<Record<string, unknown>>;

export const TOOL_FORMATS: readonly ToolFormat[] = [
  legacy,
  newFormat,
  openaiChat,
  openaiResponses,
  anthropic,
];

/**
 * Returns the stored form of tools.
 *
 * @param stored the tools as they are stored: what the format cannot show is taken from the one of
 * the same name
 */
export function importTools(
  format: ToolFormat,
  raws: readonly unknown[],
  stored: readonly Row[] = [],
): ToolDefinition[] {
  const names = namesOf(stored);
  const bases = new Map(stored.map((tool) => [tool.name, tool]));
  return raws.map((raw) => {
    const base = bases.get(put(format, "tool", raw, { names }).name);
    return put(format, "tool", raw, { names, base }) as ToolDefinition;
  });
}
