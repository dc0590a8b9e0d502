/**
 * Chats. They are the same in both versions and not part of the pair.
 *
 * @module
 */

import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { StoreError } from "../../_shared/crossfade/http/store_error.ts";
import type { Answer, Call } from "../types.ts";
import { invalid } from "./format.ts";
import { newId } from "../../_shared/crossfade/serve/identity.ts";
import type { Tools } from "./tools.ts";

/** `POST /chats` */
export async function createChat(call: Call, { store }: Tools): Promise<Answer> {
  const { title = null } = call.body.value;
  if (title !== null && typeof title !== "string") throw invalid(`Field "title" is not text`);
  const id = await newId(call);
  const row = { id, user_id: call.caller.userId, ...(title === null ? {} : { title }) };
  const stored = await store.insertChat(row).catch(async (error: unknown) => {
    if (!(error instanceof StoreError) || !error.duplicate) throw error;
    const existing = await store.getChat(id);
    if (existing !== undefined) return existing;
    const detail = `Chat "${id}" belongs to somebody else`;
    throw new Problem("conflict", { status: 409, detail, cause: error });
  });
  const { user_id: _, ...chat } = stored;
  return { status: 201, body: chat, backend: call.choice.backend };
}
