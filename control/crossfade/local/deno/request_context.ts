/** One transaction per request, as PostgREST runs it: role, claims and headers set first. */
import { AsyncLocalStorage } from "node:async_hooks";
import { PostgresConnection } from "@supabase/lite/postgres";
import postgres from "postgres";
import type { Caller } from "./callers.ts";
import {
  type AnyDatabase,
  isConnectionError,
  NothingDone,
  type RequestContext,
  Session,
} from "./session.ts";
import { SessionPool } from "./session_pool.ts";

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

const DEFAULT_STATEMENT_TIMEOUT = "60s";
/** PostgREST's default pool size. */
const SESSIONS = 10;

/** The library's connection with our transaction around each request. */
export class ApiConnection extends PostgresConnection {
  /** statement_timeout by role, as PostgREST applies the settings of the role it becomes. */
  roleTimeouts = new Map<string, string>();

  readonly #sessions: SessionPool;

  constructor(url: string, options: postgres.Options<Record<string, postgres.PostgresType>>) {
    super({ url, postgresOptions: options });
    // The library's defaults (its types above all), as it has merged them into its own client.
    const merged = this.driver.options as unknown as typeof options;
    this.#sessions = new SessionPool(
      () =>
        new Session((onclose) =>
          postgres(url, { ...options, types: merged.types ?? {}, max: 1, onclose })
        ),
      SESSIONS,
    );
  }

  /** Replace all sessions after a change of schema. */
  renewSessions(): void {
    this.#sessions.renew();
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

  /**
   * Run one statement in the transaction of the current request.
   * @param check looks at the rows; what it throws rolls the transaction back.
   */
  query(
    sql: string,
    parameters: unknown[],
    check?: (rows: Record<string, unknown>[]) => void,
  ): Promise<Record<string, unknown>[]> {
    return this.#inTransaction(async (session) => {
      const rows = await session.query(sql, parameters);
      check?.(rows);
      return rows;
    });
  }

  async #inTransaction<T>(run: (session: Session) => Promise<T>): Promise<T> {
    const request = currentRequest.getStore();
    if (!request) throw new Error("No request to run a transaction for");
    const context = this.#context(request);
    const work = (session: Session) => session.transaction(context, () => run(session));
    try {
      try {
        return await this.#sessions.use(work, isConnectionError);
      } catch (error) {
        // Rolled back or never begun, and not the request's fault: once more, with new sessions.
        if (!isStaleStatement(error) && !(error instanceof NothingDone)) throw error;
        this.#sessions.renew();
        return await this.#sessions.use(work, isConnectionError);
      }
    } catch (error) {
      if (isDatabaseFailure(error)) request.failure = error;
      throw error;
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

function isDatabaseFailure(error: unknown): error is DatabaseFailure & Error {
  return error instanceof Error && error.name === "PostgresError" && "code" in error;
}

/**
 * Whether a prepared statement did not survive a change of schema. The driver answers "cached plan
 * must not change result type" with a second try, which fails because the transaction has failed.
 */
function isStaleStatement(error: unknown): boolean {
  if (!isDatabaseFailure(error)) return false;
  const routine = "routine" in error ? error.routine : undefined;
  return error.code === "25P02" || (error.code === "0A000" && routine === "RevalidateCachedQuery");
}
