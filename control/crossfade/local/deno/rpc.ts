/**
 * Calls of database functions, in one statement as PostgREST sends them: PostgreSQL reads the
 * arguments from the request's JSON and writes the answer's. Numbers and JSON strings come through
 * exactly, and it is faster than the library's way, which takes the calls this file leaves to it:
 * GET, filters on the result, overloaded or variadic functions, other media types.
 */
import type { PostgresConnection } from "@supabase/lite/postgres";
import { quote } from "./relations.ts";
import type { ApiConnection, RequestFacts } from "./request_context.ts";

type Schema = Awaited<ReturnType<PostgresConnection["introspect"]>>;
type FunctionInfo = NonNullable<Schema["functions"]>[number];

const MAX_ROWS = 1000;

/** A function this file can call. */
interface Callable {
  info: FunctionInfo;
  /** Statement by the names given, in the order of declaration. */
  statements: Map<string, string>;
}

/** The functions of a schema cache that can be called this way. */
export type Callables = Map<string, Callable>;

/** Collect the functions that are neither overloaded nor variadic and have named arguments. */
export function collectCallables(schema: Schema): Callables {
  const callables: Callables = new Map();
  const seen = new Set<string>();
  for (const info of schema.functions ?? []) {
    const name = functionKey(info.schema, info.name);
    const simple = !info.has_variadic && info.arg_names.length === info.arg_types.length &&
      info.arg_names.every((argument) => argument !== "") && !seen.has(name);
    if (simple) callables.set(name, { info, statements: new Map() });
    else callables.delete(name);
    seen.add(name);
  }
  return callables;
}

/** Call the function; undefined when the library has to. @throws PostgresError */
export async function callFunction(
  api: ApiConnection,
  callables: Callables,
  facts: RequestFacts,
  body: string,
): Promise<Response | undefined> {
  const callable = callables.get(functionKey(facts.schema, facts.path.slice("/rpc/".length)));
  const names = callable && argumentNames(body);
  if (!callable || !names) return undefined;
  const sql = statementFor(callable, names);
  if (sql === undefined) return undefined;
  const [row] = await api.query(sql, [body === "" ? "{}" : body]);
  return answer(callable.info, row ?? {});
}

/** Whether a request is a call this file may take. */
export function isPlainCall(request: Request, url: URL): boolean {
  const { headers } = request;
  const accept = headers.get("accept") ?? "*/*";
  const type = headers.get("content-type") ?? "application/json";
  return request.method === "POST" && url.search === "" && !headers.has("prefer") &&
    !headers.has("range") && type.startsWith("application/json") &&
    (accept === "*/*" || accept === "application/json");
}

function functionKey(schema: string, name: string): string {
  return `${schema}.${name}`;
}

function argumentNames(body: string): string[] | undefined {
  if (body === "") return [];
  try {
    const value: unknown = JSON.parse(body);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? Object.keys(value) : undefined;
  } catch {
    return undefined; // the library knows how to complain
  }
}

/** The statement for these arguments; undefined when they do not fit the function. */
function statementFor({ info, statements }: Callable, given: string[]): string | undefined {
  const key = given.join("\0");
  const known = statements.get(key);
  if (known !== undefined) return known;
  const required = info.arg_names.slice(0, info.arg_names.length - info.arg_defaults);
  const fits = given.every((name) => info.arg_names.includes(name)) &&
    required.every((name) => given.includes(name));
  if (!fits) return undefined;
  const sql = buildStatement(info, given);
  statements.set(key, sql);
  return sql;
}

function buildStatement(info: FunctionInfo, given: string[]): string {
  const types = new Map(info.arg_names.map((name, index) => [name, info.arg_types[index]]));
  const columns = given.map((name) => `${quote(name)} ${types.get(name)}`).join(", ");
  const values = given.map((name) => `${quote(name)} := p.${quote(name)}`).join(", ");
  const call = `${quote(info.schema)}.${quote(info.name)}(${values})`;
  const source = given.length > 0 ? `json_to_record($1::json) as p(${columns}), ` : "";
  const unused = given.length > 0 ? "" : " where $1::text is not null";
  const rows = `select r.* from ${source}lateral ${call} as r${unused}`;
  const isRow = info.return_typtype === "c" || info.has_out_args;
  const value = isRow ? "t" : "t.r";
  const result = info.return_is_setof
    ? `coalesce(json_agg(${value}), '[]') from (${rows} limit ${MAX_ROWS}) as t`
    : `to_json(${value}) from (${rows}) as t`;
  // Materialized, so that the function has run before its answer headers are read.
  return `with result as materialized (select ${result.replace(" from", "::text as body from")})
    select body, current_setting('response.headers', true) as headers,
      current_setting('response.status', true) as status from result`;
}

function answer(info: FunctionInfo, row: Record<string, unknown>): Response {
  const headers = new Headers({ "content-type": "application/json; charset=utf-8" });
  const own: Record<string, string>[] = JSON.parse(String(row.headers || "[]"));
  for (const entry of own) {
    for (const [name, value] of Object.entries(entry)) headers.append(name, value);
  }
  const status = Number(row.status || 200);
  if (info.return_type === "void") {
    headers.delete("content-type");
    return new Response(null, { status: row.status ? status : 204, headers });
  }
  return new Response(String(row.body ?? "null"), { status, headers });
}
