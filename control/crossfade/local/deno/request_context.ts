/** One transaction per request, as PostgREST runs it: role, claims and headers set first. */
import { AsyncLocalStorage } from "node:async_hooks";
import { PostgresConnection } from "@supabase/lite/postgres";
import { Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } from "kysely";
import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from "kysely";
import type postgres from "postgres";
import type { Caller } from "./callers.ts";

/** What a request brings along that the database may ask for. */
export interface RequestFacts {
  caller: Caller;
  /** The exposed schema it names; first in the search path. */
  schema: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  /** The database error that ended the request, for an answer that tells all of it. */
  failure?: DatabaseFailure;
}

/** An error PostgreSQL reported. */
export interface DatabaseFailure {
  code: string;
  message: string;
  detail?: string;
  hint?: string;
}

/** The request that the current asynchronous work belongs to. */
export const currentRequest = new AsyncLocalStorage<RequestFacts>();

type Context = Parameters<PostgresConnection["withContext"]>;
// deno-lint-ignore no-explicit-any -- the library's own type of an untyped database
type AnyDatabase = Kysely<any>;

const SET_CONTEXT = `select
  set_config('role', $1, true),
  set_config('request.jwt.claims', $2, true),
  set_config('request.jwt.claim.sub', $3, true),
  set_config('request.jwt.claim.role', $1, true),
  set_config('request.method', $4, true),
  set_config('request.path', $5, true),
  set_config('request.headers', $6, true),
  set_config('response.status', '', true),
  set_config('response.headers', '', true),
  set_config('statement_timeout', $7, true),
  set_config('search_path', $8, true)`;

const DEFAULT_STATEMENT_TIMEOUT = "60s";

/** The library's connection with our transaction around each request. */
export class ApiConnection extends PostgresConnection {
  /** statement_timeout by role, as PostgREST applies the settings of the role it becomes. */
  roleTimeouts = new Map<string, string>();

  readonly #idle: Session[] = [];

  /** Give up the pooled sessions, so that no prepared statement outlives a change of schema. */
  retireSessions(): void {
    for (const session of this.#idle.splice(0)) session.retire();
  }

  /** The library's way in; the caller is ours, whoever the library takes it to be. */
  override withContext<T>(
    _vars: Context[0],
    run: (db: AnyDatabase) => Promise<T>,
    options?: Context[2],
  ): Promise<T> {
    if (options?.transaction) return run(options.transaction);
    return this.#inTransaction((session) => run(session.db));
  }

  /** Run one statement in the transaction of the current request. */
  query(sql: string, parameters: unknown[]): Promise<Record<string, unknown>[]> {
    return this.#inTransaction((session) => session.query(sql, parameters));
  }

  async #inTransaction<T>(run: (session: Session) => Promise<T>): Promise<T> {
    const request = currentRequest.getStore();
    if (!request) throw new Error("No request to run a transaction for");
    const session = this.#idle.pop() ?? new Session(await this.driver.reserve());
    let healthy = true;
    try {
      return await session.transaction(this.#context(request), () => run(session));
    } catch (error) {
      healthy = !isConnectionError(error);
      if (isDatabaseFailure(error)) request.failure = error;
      throw error;
    } finally {
      if (healthy && !session.retired) this.#idle.push(session);
      else session.retire();
    }
  }

  #context({ caller, method, path, headers, schema }: RequestFacts): RequestContext {
    const { role, claims } = caller;
    return {
      readOnly: method === "GET" || method === "HEAD",
      parameters: [
        role,
        JSON.stringify(claims),
        String(claims.sub ?? ""),
        method,
        path,
        JSON.stringify(headers),
        this.roleTimeouts.get(role) ?? DEFAULT_STATEMENT_TIMEOUT,
        `"${schema}", public, extensions`,
      ],
    };
  }
}

interface RequestContext {
  readOnly: boolean;
  parameters: string[];
}

/** One pooled database session with a query builder bound to it. */
class Session {
  retired = false;
  /** The library's query builder on this session. */
  readonly db: AnyDatabase;
  readonly #sql: postgres.ReservedSql;

  constructor(sql: postgres.ReservedSql) {
    this.#sql = sql;
    const connection = new SessionConnection(this);
    this.db = new Kysely({
      dialect: {
        createAdapter: () => new PostgresAdapter(),
        createDriver: () => new SessionDriver(connection),
        createIntrospector: (db) => new PostgresIntrospector(db),
        createQueryCompiler: () => new PostgresQueryCompiler(),
      },
    });
  }

  /** Run the work in a transaction; begin and context travel together with its first query. */
  async transaction<T>(
    context: RequestContext,
    run: () => Promise<T>,
  ): Promise<T> {
    const sql = this.#sql;
    const opened = Promise.all([
      sql.unsafe(context.readOnly ? "begin read only" : "begin"),
      sql.unsafe(SET_CONTEXT, context.parameters, { prepare: true }),
    ]);
    opened.catch(() => {}); // awaited below; until then it must not count as unhandled
    try {
      const result = await run();
      await opened;
      await sql.unsafe("commit");
      return result;
    } catch (error) {
      await sql.unsafe("rollback").catch(() => {});
      await opened; // its error is the cause of the other one
      throw error;
    }
  }

  /** Run a prepared statement; postgres.js otherwise asks for parameter types in a round trip. */
  query(sql: string, parameters: unknown[]): Promise<postgres.RowList<postgres.Row[]>> {
    return this.#sql.unsafe(sql, parameters as never[], { prepare: true });
  }

  retire(): void {
    if (this.retired) return;
    this.retired = true;
    this.#sql.release();
  }
}

class SessionConnection implements DatabaseConnection {
  constructor(readonly session: Session) {}

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const rows = await this.session.query(query.sql, [...query.parameters]);
    const changes = ["INSERT", "UPDATE", "DELETE", "MERGE"].includes(rows.command);
    return {
      rows: Array.from(rows) as R[],
      ...(changes ? { numAffectedRows: BigInt(rows.count) } : {}),
    };
  }

  // deno-lint-ignore require-yield
  async *streamQuery<R>(): AsyncGenerator<QueryResult<R>> {
    await Promise.reject(new Error("Cannot stream a query of a request"));
  }
}

/** Gives out the one connection of a session; begin and commit are the session's own. */
class SessionDriver implements Driver {
  constructor(readonly connection: DatabaseConnection) {}

  init(): Promise<void> {
    return Promise.resolve();
  }
  acquireConnection(): Promise<DatabaseConnection> {
    return Promise.resolve(this.connection);
  }
  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(statement("savepoint inner_work"));
  }
  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(statement("release savepoint inner_work"));
  }
  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(statement("rollback to savepoint inner_work"));
  }
  releaseConnection(): Promise<void> {
    return Promise.resolve();
  }
  destroy(): Promise<void> {
    return Promise.resolve();
  }
}

function statement(sql: string): CompiledQuery {
  return { sql, parameters: [], query: { kind: "RawNode" } } as unknown as CompiledQuery;
}

function isDatabaseFailure(error: unknown): error is DatabaseFailure & Error {
  return error instanceof Error && error.name === "PostgresError" && "code" in error;
}

function isConnectionError(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return !/^[0-9A-Z]{5}$/.test(code) || /^(57P|08)/.test(code);
}
