/**
 * Addresses of a pair's rows: list, create, read, edit, delete, in the client's version on the chosen
 * backend.
 *
 * @module
 */

import type { Version } from "../contract.ts";
import { Problem } from "../http/errors.ts";
import type { Answer, Call, Message, Route } from "./call.ts";
import { canonical } from "./canonical.ts";
import { convert } from "./convert.ts";
import { type Attempt, serve } from "./fallback.ts";
import { repeatableId } from "./identity.ts";
import { lostInV1, mayWriteV2 } from "./lossless.ts";
import type { PairOptions, Resource } from "./options.ts";
import type { Key, OpenRows, Rows } from "./rows.ts";
import { compareTables } from "./shadow.ts";
import { StoreError } from "../http/store_error.ts";

const LARGEST_PAGE = 500;
const DEFAULT_PAGE = 100;
// An edit across formats reads, merges and writes; somebody else may write in between.
const EDIT_TRIES = 3;

/** A resource with its defaults, for one caller. */
interface Given extends Required<Omit<Resource, "path" | "idempotency">> {
  readonly pair: string;
  readonly idempotency: string | undefined;
  readonly rows: Rows;
}

/** Returns the routes of a pair; none for a pair without a resource. */
export function resourceRoutes(
  { pair, resource }: PairOptions,
  openRows: OpenRows | undefined,
): Route[] {
  if (resource === undefined) return [];
  if (openRows === undefined) {
    throw new TypeError(`Cannot serve pair "${pair}": openRows is missing`);
  }
  const { path = `/${pair}`, key = ["id"], filters = key, idempotency } = resource;
  const one = [path, ...key.map((column) => `{${column}}`)].join("/");
  const open = (call: Call): Given => ({
    ...{ ...resource, pair, key, filters, rows: openRows(call.caller) },
    idempotency: idempotency ?? (key.join() === "id" && takesId(resource) ? "id" : undefined),
  });
  return [
    { method: "GET", path, pair, handle: (call) => list(call, open(call)) },
    { method: "POST", path, pair, handle: (call) => create(call, open(call)) },
    { method: "GET", path: one, pair, handle: (call) => read(call, open(call)) },
    { method: "PATCH", path: one, pair, handle: (call) => edit(call, open(call)) },
    { method: "DELETE", path: one, pair, handle: (call) => remove(call, open(call)) },
  ];
}

function takesId({ fields }: Resource): boolean {
  return fields[1].includes("id") && fields[2].includes("id");
}

async function list(call: Call, given: Given): Promise<Answer> {
  const { key, rows, tables } = given;
  const query = readQuery(call, given);
  const { value, ...served } = await serve(call, { kind: "read" }, async ({ backend }) => {
    const stored = await rows.list(tables[backend], { ...query, order: key });
    return { stored, shown: stored.map((row) => toWire(call, given, row, backend)) };
  });
  const body = { [given.pair]: value.shown };
  return { status: 200, body, ...served, shadow: () => compare(given, value.stored) };
}

async function create(call: Call, given: Given): Promise<Answer> {
  const { idempotency, rows, tables } = given;
  const repeatable = await repeatableId(call);
  if (repeatable !== undefined && idempotency === undefined) {
    const detail =
      "A repeated request cannot be told from a new one here: leave X-Idempotency-Key out";
    throw new Problem("invalid-body", { status: 400, detail });
  }
  const made = idempotency === undefined
    ? {}
    : { [idempotency]: repeatable ?? call.body.value[idempotency] ?? crypto.randomUUID() };
  const fields = { ...readFields(call, given), ...made };
  // Without an id that is known beforehand a second try could make a second row.
  const kind = idempotency === undefined ? "change" : "create";
  const lost = lostFields(call, given, fields);
  const options = { kind, ...firstFor(call, lost) } as const;
  const { value, ...served } = await serve(call, options, async (attempt) => {
    const { backend } = attempt;
    refuseLoss(call, lost, backend);
    const row = toBackend(call, given, fields, backend);
    const stored = await rows.insert(tables[backend], row).catch(async (error: unknown) => {
      if (idempotency === undefined || !(error instanceof StoreError) || !error.duplicate) {
        throw error;
      }
      const where = { [idempotency]: String(row[idempotency]) };
      const [existing] = await rows.list(tables[backend], { where, order: given.key, limit: 1 });
      if (existing === undefined || !holds(existing, row)) throw error;
      return existing;
    });
    attempt.wrote = true;
    return toWire(call, given, stored, backend);
  });
  return { status: 201, body: value, ...served };
}

/** Fields of a V2 client that V1 cannot hold. */
function lostFields(call: Call, { convert: both }: Given, fields: Message): string[] {
  if (call.body.version === 1) return [];
  const shown = convert(both, fields, { from: 2, to: 1 });
  return lostInV1(both, fields, { shown, fields: Object.keys(fields) });
}

/** Sends what V1 cannot hold to V2 first. */
function firstFor(call: Call, lost: readonly string[]): { first?: 2 } {
  return lost.length > 0 && call.choice.backend === 1 && mayWriteV2(call) ? { first: 2 } : {};
}

/** @throws {Problem} 409, or 503 where V2 should serve: stored without these fields they are lost */
function refuseLoss(call: Call, lost: readonly string[], backend: Version): void {
  if (backend === 2 || lost.length === 0) return;
  const detail = `Field "${lost.join('", "')}" cannot be kept while version 1 serves`;
  if (call.choice.backend === 1) throw new Problem("conflict", { status: 409, detail });
  const headers = { "Retry-After": "1" };
  throw new Problem("upstream-unavailable", { status: 503, detail, headers });
}

/** Returns whether a stored row has all that a repeated request sends. */
function holds(stored: Message, row: Message): boolean {
  return Object.entries(row).every(([name, value]) =>
    value === undefined || canonical(value) === canonical(stored[name])
  );
}

async function read(call: Call, given: Given): Promise<Answer> {
  const { value, ...served } = await serve(call, { kind: "read" }, async ({ backend }) => {
    const stored = await find(call, given, backend);
    return { stored, shown: toWire(call, given, stored, backend) };
  });
  const shadow = () => compare(given, [value.stored]);
  return { status: 200, body: value.shown, ...served, shadow };
}

async function edit(call: Call, given: Given): Promise<Answer> {
  const changes = readFields(call, given);
  if (Object.keys(changes).length === 0) throw invalid("The body changes nothing");
  const lost = lostFields(call, given, changes);
  const options = { kind: "change", ...firstFor(call, lost) } as const;
  const { value, ...served } = await serve(call, options, async (attempt) => {
    const { backend } = attempt;
    refuseLoss(call, lost, backend);
    const row = backend === call.body.version
      ? await given.rows.update(given.tables[backend], keyOf(call, given), { changes })
      : await editAcross(call, given, { attempt, changes });
    if (row === undefined) throw missing(call);
    attempt.wrote = true;
    return toWire(call, given, row, backend);
  });
  return { status: 200, body: value, ...served };
}

/**
 * Edits a row of the other format: what the edit did not touch must survive, so the stored row is
 * read, shown in the client's format, changed, and converted over itself; only what differs is
 * written, and only over what was read.
 */
async function editAcross(
  call: Call,
  given: Given,
  { attempt: { backend }, changes }: { readonly attempt: Attempt; readonly changes: Message },
): Promise<Message> {
  const { convert: converter, rows, tables } = given;
  const { version } = call.body;
  for (let tries = 0; tries < EDIT_TRIES; tries++) {
    const current = await find(call, given, backend);
    const shown = convert(converter, current, { from: backend, to: version });
    const edited = { ...shown, ...changes };
    const merged = convert(converter, edited, { from: version, to: backend, base: current });
    const differing = Object.keys(merged).filter((name) =>
      merged[name] !== undefined && canonical(merged[name]) !== canonical(current[name] ?? null)
    );
    if (differing.length === 0) return current;
    const pick = (row: Message): Message =>
      Object.fromEntries(differing.map((name) => [name, row[name] ?? null]));
    const change = { changes: pick(merged), seen: pick(current) };
    const row = await rows.update(tables[backend], keyOf(call, given), change);
    if (row !== undefined) return row;
  }
  const detail = "The row is being changed by others; try again";
  throw new Problem("conflict", { status: 409, detail, headers: { "Retry-After": "1" } });
}

async function remove(call: Call, given: Given): Promise<Answer> {
  const { value: _, ...served } = await serve(call, { kind: "change" }, async (attempt) => {
    const { rows, tables } = given;
    if (!await rows.remove(tables[attempt.backend], keyOf(call, given))) throw missing(call);
    attempt.wrote = true;
  });
  return { status: 204, ...served };
}

async function find(call: Call, given: Given, backend: Version): Promise<Message> {
  const [row] = await given.rows.getMany(given.tables[backend], [keyOf(call, given)]);
  if (row === undefined) throw missing(call);
  return row;
}

function keyOf(call: Call, { key }: Given): Key {
  return Object.fromEntries(key.map((column) => [column, call.parameters[column] ?? ""]));
}

function toWire(call: Call, { convert: both }: Given, row: Message, backend: Version): Message {
  return convert(both, row, { from: backend, to: call.negotiated.version });
}

function toBackend(call: Call, { convert: both }: Given, fields: Message, to: Version): Message {
  return convert(both, fields, { from: call.body.version, to });
}

/** Returns what a client may set. @throws {Problem} 422 for any other field: dropping it loses data */
function readFields(call: Call, { fields }: Given): Message {
  const { value: { schema_version: _, ...body }, version } = call.body;
  const unknown = Object.keys(body).find((name) => !fields[version].includes(name));
  if (unknown === undefined) return body;
  throw invalid(`Field "${unknown}" is none that can be set in version ${version}`);
}

function compare(given: Given, rows: readonly Message[]): Promise<boolean | undefined> {
  const { pair, key, tables } = given;
  const keyed = (row: Message): Key =>
    Object.fromEntries(key.map((column) => [column, String(row[column])]));
  return compareTables({
    pair,
    toV1: (row) => convert(given.convert, row, { from: 2, to: 1 }),
    keyOf: (row) => key.map((column) => String(row[column])).join(" "),
    read: (version, some) => given.rows.getMany(tables[version], some.map(keyed)),
  }, rows);
}

/** Reads `?column=value&limit=&after=`; `after` is the key of a row, its columns joined by commas. */
function readQuery(call: Call, { key, filters }: Given) {
  const where: Record<string, string> = {};
  let limit = DEFAULT_PAGE;
  let after: Key | undefined;
  for (const [name, value] of call.url.searchParams) {
    if (name === "limit") limit = readLimit(value);
    else if (name === "after") after = readAfter(key, value);
    else if (filters.includes(name)) where[name] = value;
    else throw badQuery(name, `is none of ${[...filters, "limit", "after"].join(", ")}`);
  }
  return { where, limit, ...(after === undefined ? {} : { after }) };
}

function readAfter(key: readonly string[], text: string): Key {
  const values = text.split(",");
  if (values.length !== key.length) throw badQuery("after", `is not "${key.join(",")}" of a row`);
  return Object.fromEntries(key.map((column, place) => [column, values[place] ?? ""]));
}

function readLimit(text: string): number {
  const limit = Number(text);
  if (/^[0-9]+$/.test(text) && limit >= 1 && limit <= LARGEST_PAGE) return limit;
  throw badQuery("limit", `is not a number from 1 to ${LARGEST_PAGE}`);
}

function badQuery(name: string, fault: string): Problem {
  return new Problem("invalid-body", { status: 400, detail: `Parameter "${name}" ${fault}` });
}

function invalid(detail: string): Problem {
  return new Problem("invalid-message", { status: 422, detail });
}

function missing(call: Call): Problem {
  const detail = `There is nothing at "${call.negotiated.resource}"`;
  return new Problem("not-found", { status: 404, detail });
}
