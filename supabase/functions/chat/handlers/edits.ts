/**
 * Edits of messages, in the client's format on the chosen backend.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { convertRequest } from "../adapters/api_version_router.ts";
import { withoutResidue } from "../adapters/message_adapter.ts";
import { canonical } from "../../_shared/crossfade/serve/canonical.ts";
import { lostInV1 } from "../../_shared/crossfade/serve/lossless.ts";
import { mayWriteV2 } from "../adapters/feature_flags.ts";
import { type Attempt, serve } from "../../_shared/crossfade/serve/fallback.ts";
import type { Answer, Call, Message } from "../types.ts";
import { invalid, readFields } from "./format.ts";
import { FORMATS, found, type Tools, toWire } from "./tools.ts";

// An edit across formats reads, merges and writes; somebody else may write in between.
const EDIT_TRIES = 3;

/** `PATCH /messages/{id}` */
export async function editMessage(call: Call, tools: Tools, id: string): Promise<Answer> {
  const { value: body, version } = call.body;
  if (body.id !== undefined && body.id !== id) throw invalid(`Field "id" cannot be changed`);
  const changes = withoutResidue(readFields(FORMATS[version], body));
  if (Object.keys(changes).length === 0) throw invalid("The body changes nothing");
  const careful = version === 2 && call.choice.backend === 1 && mayWriteV2(call);
  const edit = { id, changes, version, careful };
  const { value, ...served } = await serveEdit(call, tools, edit).catch((error: unknown) => {
    if (!(error instanceof NotHeldByV1)) throw error;
    return serveEdit(call, tools, { ...edit, careful: false, first: 2 });
  });
  return { status: 200, body: value, ...served };
}

interface Edit {
  readonly id: string;
  readonly changes: Message;
  /** Format of the changes. */
  readonly version: Version;
  /** Give up, before anything is written, if V1 cannot hold the changes. */
  readonly careful: boolean;
  readonly first?: Version;
}

/** Thrown by a careful edit; nothing has been written then. */
class NotHeldByV1 extends Error {}

function serveEdit(call: Call, tools: Tools, edit: Edit) {
  const first = edit.first === undefined ? {} : { first: edit.first };
  return serve(call, { kind: "change", ...first }, async (attempt) => {
    const row = attempt.backend === edit.version
      ? await editDirectly(tools, attempt, edit)
      : await editAcross(tools, attempt, edit);
    return toWire(call, tools, row, attempt.backend);
  });
}

async function editDirectly(
  { store }: Tools,
  attempt: Attempt,
  { id, changes }: Edit,
): Promise<Message> {
  const row = await found(store.update(attempt.backend, { id, changes: stamped(changes) }), id);
  attempt.wrote = true;
  return row;
}

/**
 * Edits a row of the other format: what the edit did not touch must survive, so the stored row is
 * read, shown in the client's format, changed, and merged back over itself.
 */
async function editAcross(
  { store, converter }: Tools,
  attempt: Attempt,
  edit: Edit,
): Promise<Message> {
  const { backend } = attempt;
  const up = { from: edit.version, to: backend };
  const down = { from: backend, to: edit.version };
  for (let tries = 0; tries < EDIT_TRIES; tries++) {
    const current = await found(store.get(backend, edit.id), edit.id);
    const shown = convertRequest(converter, current, down);
    const edited = { ...shown, ...edit.changes };
    const merged = convertRequest(converter, edited, { ...up, base: current });
    const fields = Object.keys(edit.changes);
    if (edit.careful && lostInV1(converter, edited, { shown: merged, fields }).length > 0) {
      throw new NotHeldByV1();
    }
    const changes = differences(merged, current, FORMATS[backend].editable);
    if (Object.keys(changes).length === 0) return current;
    const seen = { ifUpdatedAt: readUpdatedAt(current) };
    const row = await store.update(backend, { id: edit.id, changes: stamped(changes), ...seen });
    if (row === undefined) continue;
    attempt.wrote = true;
    return row;
  }
  const detail = `Message "${edit.id}" is being changed by others; try again`;
  throw new Problem("conflict", { status: 409, detail, headers: { "Retry-After": "1" } });
}

/** Marks the row as changed, which is how an edit across formats notices another one. */
function stamped(changes: Message): Message {
  return { ...changes, updated_at: new Date().toISOString() };
}

function readUpdatedAt(row: Message): string | null {
  return typeof row.updated_at === "string" ? row.updated_at : null;
}

function differences(merged: Message, current: Message, columns: readonly string[]): Message {
  return Object.fromEntries(
    columns
      .filter((name) => merged[name] !== undefined)
      .filter((name) => canonical(merged[name] ?? null) !== canonical(current[name] ?? null))
      .map((name) => [name, merged[name]]),
  );
}
