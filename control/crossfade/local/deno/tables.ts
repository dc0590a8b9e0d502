/**
 * Rows of tables and views, in one statement as PostgREST sends it: PostgreSQL reads the rows from
 * the request's JSON and writes the answer's. The library takes what this file leaves to it:
 * embedding, upserts, other media types and everything table_query.ts does not parse.
 */
import type { ApiConnection, RequestFacts } from "./request_context.ts";
import { quote, type Relation, type Relations } from "./relations.ts";
import { TARGET } from "./filters.ts";
import { parseQuery, type TableQuery } from "./table_query.ts";

const MAX_ROWS = 1000;
const OBJECT_TYPE = "application/vnd.pgrst.object+json";

/** What the headers ask for. */
interface Wishes {
  /** Answer with the one row, not a list. */
  single: boolean;
  /** Answer with the rows a change touched. */
  representation: boolean;
  /** Count all rows. */
  count: boolean;
}

/** Thrown inside the transaction, so that it is rolled back. */
class NotOneRow extends Error {
  constructor(readonly rows: number) {
    super(`The result contains ${rows} rows`);
  }
}

/** Answer the request; undefined when the library has to. @throws PostgresError */
export async function answerTable(
  api: ApiConnection,
  relations: Relations,
  facts: RequestFacts,
  { url, body }: { url: URL; body: string | null },
): Promise<Response | undefined> {
  const relation = relations.get(`${facts.schema}.${facts.path.slice(1)}`);
  const wishes = relation && parseWishes(facts);
  if (!relation || !wishes) return undefined;
  const statement = buildStatement(relation, facts.method, wishes, url.searchParams, body);
  if (!statement) return undefined;
  try {
    const [row = {}] = await api.query(statement.sql, statement.query.parameters, (rows) => {
      const found = Number(rows[0]?.found);
      if (wishes.single && wantsBody(facts.method, wishes) && found !== 1) {
        throw new NotOneRow(found);
      }
    });
    return answer(facts.method, wishes, statement.query, row);
  } catch (error) {
    if (!(error instanceof NotOneRow)) throw error;
    return Response.json({
      code: "PGRST116",
      details: error.message,
      hint: null,
      message: "Cannot coerce the result to a single JSON object",
    }, { status: 406 });
  }
}

function parseWishes({ headers }: RequestFacts): Wishes | undefined {
  const accept = headers.accept ?? "*/*";
  const single = accept === OBJECT_TYPE;
  const known = single || accept === "*/*" || accept === "application/json";
  const type = headers["content-type"] ?? "application/json";
  if (!known || !type.startsWith("application/json") || headers.range !== undefined) {
    return undefined;
  }
  const wishes = { single, representation: false, count: false };
  for (const token of (headers.prefer ?? "").split(",").map((part) => part.trim())) {
    if (token === "return=representation") wishes.representation = true;
    else if (token === "count=exact") wishes.count = true;
    else if (token !== "" && token !== "return=minimal") return undefined;
  }
  return wishes;
}

function wantsBody(method: string, wishes: Wishes): boolean {
  return method === "GET" || (method !== "HEAD" && wishes.representation);
}

function buildStatement(
  relation: Relation,
  method: string,
  wishes: Wishes,
  search: URLSearchParams,
  body: string | null,
): { sql: string; query: TableQuery } | undefined {
  if (method === "GET" || method === "HEAD") return buildSelect(relation, wishes, search);
  if (method === "DELETE") {
    const command = `delete from ${targetOf(relation)}`;
    return buildChange(command, wishes, parseQuery(relation, search, []));
  }
  const keys = rowKeys(relation, body);
  if (!keys) return undefined;
  if (method === "POST") return buildInsert(relation, wishes, search, body, keys);
  if (method !== "PATCH" || keys.length === 0 || body?.trimStart()[0] !== "{") return undefined;
  const values = keys.map((key) => `${quote(key)} = body.${quote(key)}`).join(", ");
  const source = `json_to_record($1::json) as body (${typedColumns(relation, keys)})`;
  const update = `update ${targetOf(relation)} set ${values} from ${source}`;
  return buildChange(update, wishes, parseQuery(relation, search, [body]));
}

function buildSelect(
  relation: Relation,
  wishes: Wishes,
  search: URLSearchParams,
): { sql: string; query: TableQuery } | undefined {
  const query = parseQuery(relation, search, []);
  if (!query) return undefined;
  const from = `from ${targetOf(relation)} ${query.where}`;
  const limit = Math.min(query.limit ?? MAX_ROWS, MAX_ROWS);
  const total = wishes.count ? `(select count(*) ${from})` : "null::bigint";
  const sql = `with source as (
      select ${query.columns} ${from} ${query.orderBy} limit ${limit} offset ${query.offset}
    ) ${resultOf("source", wishes, total)}`;
  return { sql, query };
}

function buildInsert(
  relation: Relation,
  wishes: Wishes,
  search: URLSearchParams,
  body: string | null,
  keys: string[],
): { sql: string; query: TableQuery } | undefined {
  const known = [...search.keys()].every((name) => name === "select" || name === "columns");
  const rows = new URLSearchParams(search);
  rows.delete("columns");
  const query = parseQuery(relation, rows, [body]);
  if (!known || !query || keys.length === 0) return undefined;
  const names = keys.map(quote).join(", ");
  const source = body?.trimStart()[0] === "[" ? "json_to_recordset" : "json_to_record";
  const sql = `with changed as (
      insert into ${targetOf(relation)} (${names})
      select ${names} from ${source}($1::json) as body (${typedColumns(relation, keys)})
      ${returning(wishes, query)}
    ) ${resultOf("changed", wishes, "null::bigint")}`;
  return { sql, query };
}

function buildChange(
  command: string,
  wishes: Wishes,
  query: TableQuery | undefined,
): { sql: string; query: TableQuery } | undefined {
  if (!query || query.orderBy !== "" || query.limit !== undefined || query.offset > 0) {
    return undefined;
  }
  const sql = `with changed as (
      ${command} ${query.where} ${returning(wishes, query)}
    ) ${resultOf("changed", wishes, "null::bigint")}`;
  return { sql, query };
}

/** Without a representation nothing is read back: reading needs a right of its own. */
function returning(wishes: Wishes, query: TableQuery): string {
  return `returning ${wishes.representation ? query.columns : "1 as one"}`;
}

function resultOf(source: string, wishes: Wishes, total: string): string {
  const body = wishes.single ? "json_agg(t) -> 0" : "coalesce(json_agg(t), '[]')";
  return `select ${total} as total, count(*) as found, (${body})::text as body from ${source} as t`;
}

/** The keys all rows of the body have, if they are columns; undefined for anything unusual. */
function rowKeys(relation: Relation, body: string | null): string[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body ?? "");
  } catch {
    return undefined;
  }
  const rows: unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  const first = rows[0];
  if (typeof first !== "object" || first === null || Array.isArray(first)) return undefined;
  const keys = Object.keys(first);
  const alike = rows.every((row) =>
    typeof row === "object" && row !== null && Object.keys(row).length === keys.length &&
    keys.every((key) => key in row)
  );
  return alike && keys.every((key) => relation.columns.has(key)) ? keys : undefined;
}

function typedColumns(relation: Relation, keys: string[]): string {
  return keys.map((key) => `${quote(key)} ${relation.columns.get(key)}`).join(", ");
}

function targetOf({ schema, name }: Relation): string {
  return `${quote(schema)}.${quote(name)} as ${TARGET}`;
}

function answer(
  method: string,
  wishes: Wishes,
  query: TableQuery,
  row: Record<string, unknown>,
): Response {
  const found = Number(row.found);
  const total = row.total === null ? undefined : Number(row.total);
  const reading = method === "GET" || method === "HEAD";
  if (reading && total !== undefined && query.offset > total) return outOfRange(query, total);
  const range = found === 0 || method === "POST"
    ? "*"
    : `${query.offset}-${query.offset + found - 1}`;
  const headers: Record<string, string> = { "content-range": `${range}/${total ?? "*"}` };
  if (wishes.count) headers["preference-applied"] = "count=exact";
  if (!wantsBody(method, wishes)) {
    const status = method === "POST" ? 201 : reading ? 200 : 204;
    return new Response(null, { status, headers });
  }
  headers["content-type"] = `${wishes.single ? OBJECT_TYPE : "application/json"}; charset=utf-8`;
  const partial = reading && total !== undefined && found < total;
  const status = method === "POST" ? 201 : partial ? 206 : 200;
  return new Response(String(row.body), { status, headers });
}

function outOfRange({ offset }: TableQuery, total: number): Response {
  return Response.json({
    code: "PGRST103",
    details: `An offset of ${offset} was requested, but there are only ${total} rows.`,
    hint: null,
    message: "Requested range not satisfiable",
  }, { status: 416, headers: { "content-range": `*/${total}` } });
}
