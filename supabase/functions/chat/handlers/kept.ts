/**
 * What the features keep of a user, for the user to see and to delete.
 *
 * @module
 */

import { Problem } from "../../_shared/crossfade/http/errors.ts";
import type { Answer, Call } from "../types.ts";
import type { Tools } from "./tools.ts";

const MOST_LISTED = 500;

/** `GET /memories` */
export async function listFacts(call: Call, { features }: Tools): Promise<Answer> {
  needs(call, "enable_memory_system");
  const memories = await features.facts(MOST_LISTED);
  return { status: 200, body: { memories }, backend: call.choice.backend };
}

/** `DELETE /memories/{id}`; works also while the feature is off: forgetting must always be possible. */
export async function forgetFact(call: Call, { features }: Tools, id: string): Promise<Answer> {
  if (await features.removeFact(id)) return { status: 204, backend: call.choice.backend };
  throw new Problem("not-found", { status: 404, detail: `There is no memory "${id}"` });
}

/** `GET /chats/{id}/state` */
export async function readState(call: Call, { features }: Tools, id: string): Promise<Answer> {
  needs(call, "enable_state_management");
  const state = await features.readState(id);
  const detail = `Chat "${id}" has no state`;
  if (state === undefined) throw new Problem("not-found", { status: 404, detail });
  return { status: 200, body: state, backend: call.choice.backend };
}

function needs(call: Call, flag: string): void {
  if (call.view.isEnabled(flag, call.context)) return;
  const detail = `This is switched off (flag ${flag})`;
  throw new Problem("not-found", { status: 404, detail });
}
