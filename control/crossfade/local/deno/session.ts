/** One pooled database session, and the library's query builder on it. */
import { Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } from "kysely";
import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from "kysely";
import type postgres from "postgres";

// deno-lint-ignore no-explicit-any -- the library's own type of an untyped database
export type AnyDatabase = Kysely<any>;

/** What every transaction of a request begins with. */
export interface RequestContext {
  readOnly: boolean;
  /** Of SET_CONTEXT, in its order. */
  parameters: string[];
}

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

/** One pooled database session with a query builder bound to it. */
export class Session {
  /** The library's query builder on this session. */
  readonly db: AnyDatabase;
  /** A client with one connection; it connects when it is first used. */
  readonly #sql: postgres.Sql;
  /** Rejects when the connection has closed, and stays so: a session is not used again then. */
  readonly #lost: Promise<never>;

  /** @param open makes the client, which calls `onclose` when its connection has closed. */
  constructor(open: (onclose: () => void) => postgres.Sql) {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {}); // also when nobody is waiting
    this.#lost = promise;
    this.#sql = open(() => reject(new ConnectionLost()));
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
    const opened = this.#unlessLost(Promise.all([
      sql.unsafe(context.readOnly ? "begin read only" : "begin"),
      sql.unsafe(SET_CONTEXT, context.parameters, { prepare: true }),
    ]));
    opened.catch(() => {}); // awaited below; until then it must not count as unhandled
    let committing = false;
    try {
      const result = await this.#unlessLost(run());
      await opened;
      committing = true;
      await this.#unlessLost(sql.unsafe("commit"));
      return result;
    } catch (error) {
      // A lost connection has rolled back, and postgres.js may never answer on it again.
      if (!isConnectionError(error)) await this.#unlessLost(sql.unsafe("rollback")).catch(() => {});
      const cause = await opened.then(() => error, (first) => first);
      if (!committing && isConnectionError(cause)) throw new NothingDone(cause);
      throw cause;
    }
  }

  /** SAFETY: a query that waits in postgres.js while the connection closes can wait for ever. */
  #unlessLost<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#lost]);
  }

  /** Run a prepared statement; postgres.js otherwise asks for parameter types in a round trip. */
  query(sql: string, parameters: unknown[]): Promise<postgres.RowList<postgres.Row[]>> {
    return this.#sql.unsafe(sql, parameters as never[], { prepare: true });
  }

  /** End the connection. */
  close(): void {
    this.#sql.end({ timeout: 1 }).catch(() => {});
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

/** The connection closed while something was waiting for it. */
class ConnectionLost extends Error {
  readonly code = "CONNECTION_CLOSED"; // as postgres.js says it
}

/** The connection broke before the commit was sent: the same work may be done again. */
export class NothingDone extends Error {
  constructor(override readonly cause: unknown) {
    super("The database connection was lost");
  }
}

/** Whether the connection is of no more use. */
export function isConnectionError(error: unknown): boolean {
  if (error instanceof NothingDone) return true;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^(CONNECT|E[A-Z]+$|57P|08)/.test(code);
}
