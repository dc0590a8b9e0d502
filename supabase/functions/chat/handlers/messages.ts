/**
 * Messages: create, list, read, delete, in the client's format on the chosen backend.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { convertRequest } from "../adapters/api_version_router.ts";
import { isKept } from "../adapters/feature_flags.ts";
import { withoutResidue } from "../adapters/message_adapter.ts";
import { canonical } from "../../_shared/crossfade/serve/canonical.ts";
import { isUuid } from "../../_shared/crossfade/serve/claims.ts";
import { newId } from "../../_shared/crossfade/serve/identity.ts";
import { lostInV1 } from "../../_shared/crossfade/serve/lossless.ts";
import { mayWriteV2 } from "../adapters/feature_flags.ts";
import { type Attempt, serve, type ServeOptions } from "../../_shared/crossfade/serve/fallback.ts";
import { compareTables } from "../../_shared/crossfade/serve/shadow.ts";
import { StoreError } from "../../_shared/crossfade/http/store_error.ts";
import { type Anchor, anchorOf, type MessageStore } from "../store/store.ts";
import type { Answer, Call, Message } from "../types.ts";
import { invalid, readNewFields } from "./format.ts";
import { FORMATS, found, missing, type Tools, toWire } from "./tools.ts";
import { V2 } from "./v2.ts";

const LARGEST_PAGE = 500;
const DEFAULT_PAGE = 100;

/** `POST /messages` */
export async function createMessage(call: Call, tools: Tools): Promise<Answer> {
  const { value: body, version } = call.body;
  if (!isUuid(body.chat_id)) throw invalid(`Field "chat_id" is not an id`);
  const fields = withoutResidue(readNewFields(FORMATS[version], body));
  const id = await newId(call);
  const message = { ...fields, id, chat_id: body.chat_id };
  const first = needsV2(call, tools, message) ? { first: 2 as const } : {};
  const { value, ...served } = await storeMessage(call, tools, message, { version, ...first });
  return { status: 201, body: value, ...served };
}

/** Returns whether a new message for backend 1 has parts that only V2 can hold, and may go there. */
function needsV2(call: Call, { converter }: Tools, message: Message): boolean {
  if (call.body.version !== 2 || call.choice.backend !== 1 || !mayWriteV2(call)) return false;
  const shown = convertRequest(converter, message, { from: 2, to: 1 });
  const fields = V2.editable.filter((name) => message[name] !== undefined);
  return lostInV1(converter, message, { shown, fields }).length > 0;
}

export interface StoreMessageOptions {
  /** Format of the message. */
  readonly version: Version;
  readonly first?: Version;
}

/** Stores a new message that has its id already; the same id twice is the same message. */
function storeMessage(
  call: Call,
  tools: Tools,
  message: Message,
  { version, first }: StoreMessageOptions,
) {
  const options: ServeOptions = { kind: "create", ...(first === undefined ? {} : { first }) };
  return serve(call, options, async (attempt) => {
    const { backend } = attempt;
    const converted = convertRequest(tools.converter, message, { from: version, to: backend });
    const row = withoutAbsent({ ...converted, user_id: call.caller.userId });
    const stored = await insertOnce(tools.store, attempt, row);
    return toWire(call, tools, stored, backend);
  });
}

/** A stored message as the client reads it, and in the newest format. */
export interface StoredMessage {
  readonly wire: Message;
  readonly asV2: Message;
}

/**
 * Stores new messages that have their ids already, all in one statement or none, and returns the
 * last one.
 */
export function storeMessages(
  call: Call,
  tools: Tools,
  messages: readonly Message[],
  { version, first }: StoreMessageOptions,
) {
  const options: ServeOptions = { kind: "create", ...(first === undefined ? {} : { first }) };
  return serve(call, options, async (attempt): Promise<StoredMessage> => {
    const { backend } = attempt;
    const rows = messages.map((message) => {
      const converted = convertRequest(tools.converter, message, { from: version, to: backend });
      return withoutAbsent({ ...converted, user_id: call.caller.userId });
    });
    const [row = {}] = rows.slice(-1);
    const stored = rows.length === 1
      ? await insertOnce(tools.store, attempt, row)
      : await insertTogether(tools.store, attempt, rows);
    const asV2 = backend === 2 ? stored : tools.converter.toV2(stored);
    return { wire: toWire(call, tools, stored, backend), asV2 };
  });
}

/** Says of a refusal by row-level security that there is no such chat: for this user, none is. */
function inOwnChat(error: unknown): never {
  if (!(error instanceof StoreError) || error.code !== "42501") throw error;
  throw new Problem("not-found", { status: 404, detail: "There is no such chat", cause: error });
}

async function insertTogether(
  store: MessageStore,
  attempt: Attempt,
  rows: readonly Message[],
): Promise<Message> {
  const id = String(rows.at(-1)?.id);
  try {
    const stored = await store.insertMany(attempt.backend, rows).catch(inOwnChat);
    attempt.wrote = true;
    const last = stored.find((row) => row.id === id);
    if (last !== undefined) return last;
    return await found(store.get(attempt.backend, id), id);
  } catch (error) {
    if (!(error instanceof StoreError) || !error.duplicate) throw error;
    // The model may have answered otherwise this time; what is stored is the reply.
    const existing = await store.get(attempt.backend, id);
    if (existing !== undefined) return existing;
    const detail = `Message "${id}" exists already`;
    throw new Problem("conflict", { status: 409, detail, cause: error });
  }
}

async function insertOnce(
  store: MessageStore,
  attempt: Attempt,
  row: Message & { id?: unknown },
): Promise<Message> {
  try {
    const stored = await store.insert(attempt.backend, row).catch(inOwnChat);
    attempt.wrote = true;
    return stored;
  } catch (error) {
    if (!(error instanceof StoreError) || !error.duplicate) throw error;
    const existing = await store.get(attempt.backend, String(row.id));
    if (existing !== undefined && isSameMessage(existing, row)) return existing;
    const detail = `Message "${row.id}" exists already with another content`;
    throw new Problem("conflict", { status: 409, detail, cause: error });
  }
}

/** Compares what the client decides; the rest is the server's or changes by itself. */
function isSameMessage(stored: Message, row: Message): boolean {
  return stored.chat_id === row.chat_id && stored.role === row.role &&
    canonical(stored.content) === canonical(row.content);
}

/** `GET /messages?chat_id=&limit=&after=` */
export async function listMessages(call: Call, tools: Tools): Promise<Answer> {
  const query = call.url.searchParams;
  const chatId = query.get("chat_id");
  const after = query.get("after");
  if (!isUuid(chatId)) throw badQuery("chat_id", "is not an id");
  if (after !== null && !isUuid(after)) throw badQuery("after", "is not the id of a message");
  const limit = readLimit(query.get("limit"));
  const { value, ...served } = await serve(call, { kind: "read" }, async ({ backend }) => {
    const anchor = after === null ? undefined : await findAnchor(tools.store, backend, after);
    const page = { chatId, limit, ...(anchor === undefined ? {} : { after: anchor }) };
    const rows = await tools.store.list(backend, page);
    // Shown in here: a row that cannot be converted is served from the other table.
    return { rows, messages: rows.map((row) => toWire(call, tools, row, backend)) };
  });
  const { rows, messages } = value;
  const shadow = () => compareMessages(tools, rows);
  return { status: 200, body: { messages }, ...served, shadow };
}

function compareMessages({ pair, store, converter }: Tools, rows: readonly Message[]) {
  return compareTables({
    pair,
    toV1: (row) => convertRequest(converter, row, { from: 2, to: 1 }),
    keyOf: (row) => String(row.id),
    read: (version, some) => store.getMany(version, some.map((row) => String(row.id))),
  }, rows);
}

async function findAnchor(store: MessageStore, backend: Version, id: string): Promise<Anchor> {
  return anchorOf(await found(store.get(backend, id), id), backend);
}

/** `GET /messages/{id}` */
export async function getMessage(call: Call, tools: Tools, id: string): Promise<Answer> {
  const { value, ...served } = await serve(call, { kind: "read" }, async ({ backend }) => {
    const row = await found(tools.store.get(backend, id), id);
    return { row, body: toWire(call, tools, row, backend) };
  });
  const { row, body } = value;
  if (served.fellBack?.missing === true) migrateOnRead(call, tools, row);
  return { status: 200, body, ...served, shadow: () => compareMessages(tools, [row]) };
}

/**
 * Has the V2 row made of a message that its reader could see in V1 only, behind the response.
 *
 * By the database, under the lock of the V1 row: a copy of what was read here could bring back a
 * message deleted meanwhile.
 */
function migrateOnRead(call: Call, { store, background, log }: Tools, row: Message): void {
  if (!mayWriteV2(call) || !isKept(call.view, "auto_migrate_messages", call.context)) return;
  background(
    store.copy(String(row.id)).catch((error: unknown) =>
      log("Cannot migrate a message on read", error)
    ),
  );
}

/** `DELETE /messages/{id}` */
export async function deleteMessage(call: Call, tools: Tools, id: string): Promise<Answer> {
  const { value: _, ...served } = await serve(
    call,
    { kind: "change" },
    async (attempt) => {
      if (!await tools.store.remove(attempt.backend, id)) throw missing(id);
      attempt.wrote = true;
    },
  );
  return { status: 204, ...served };
}

function badQuery(name: string, fault: string): Problem {
  return new Problem("invalid-body", { status: 400, detail: `Parameter "${name}" ${fault}` });
}

function readLimit(text: string | null): number {
  if (text === null) return DEFAULT_PAGE;
  const limit = Number(text);
  if (!/^[0-9]+$/.test(text) || limit < 1 || limit > LARGEST_PAGE) {
    throw badQuery("limit", `is not a number from 1 to ${LARGEST_PAGE}`);
  }
  return limit;
}

/** Leaves out what the database fills in by itself when it is absent. */
function withoutAbsent(row: Message): Message {
  const filledIn = ["seq", "sequence_number", "created_at", "updated_at", "edited_at"];
  return Object.fromEntries(
    Object.entries(row).filter(([name, value]) =>
      value !== undefined && !(value === null && filledIn.includes(name))
    ),
  );
}
