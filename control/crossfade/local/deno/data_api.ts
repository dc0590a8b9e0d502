/** The Data API: the library's PostgREST work-alike with PostgREST's transaction around it. */
import { App } from "@supabase/lite";
import type { Callers } from "./callers.ts";
import type { GatewayConfig } from "./config.ts";
import type { Databases } from "./database.ts";
import { failureResponse, unreachableResponse } from "./errors.ts";
import { readRelations, type Relations } from "./relations.ts";
import { currentRequest, type RequestFacts } from "./request_context.ts";
import { isConnectionError } from "./session.ts";
import { answerTable } from "./tables.ts";
import { type Callables, callFunction, collectCallables, isPlainCall } from "./rpc.ts";

/** The handler of /rest/v1. */
export interface DataApi {
  fetch(request: Request, url: URL): Promise<Response>;
  /** Read the schema cache again. */
  reload(): Promise<void>;
}

/** Create the Data API; it also reloads when the database says so (`notify pgrst`). */
export async function createDataApi(
  config: GatewayConfig,
  { admin, api }: Databases,
  callers: Callers,
): Promise<DataApi> {
  let app: App;
  let callables: Callables = new Map();
  let relations: Relations = new Map();
  let running: Promise<void> | undefined;
  let again = false;

  async function readSchema(): Promise<void> {
    const [schema, tables, roles] = await Promise.all([
      admin.introspect({ useCache: false }),
      readRelations(admin, config.schemas),
      admin.driver`
        select r.rolname as role, substring(c.setting from 'statement_timeout=(.*)') as timeout
        from pg_catalog.pg_roles as r, unnest(r.rolconfig) as c (setting)
        where c.setting like 'statement_timeout=%'`,
    ]);
    // Read as superuser, because information_schema hides from authenticator what it may not use.
    api.introspect = () => Promise.resolve(schema);
    api.roleTimeouts = new Map(roles.map((row) => [row.role, row.timeout]));
    api.renewSessions();
    callables = collectCallables(schema);
    relations = tables;
    app = new App({
      connection: api,
      api: { enabled: true, schemas: config.schemas },
      auth: {
        enabled: true,
        jwt_secret: config.jwtSecret,
        publishable_key: config.publishableKey,
        secret_key: config.secretKey,
      },
      options: { server: { admin: false, disableStudio: true } },
    });
  }

  async function reload(): Promise<void> {
    if (running) {
      again = true; // a change during a read may be missing from it
      return await running;
    }
    running = (async () => {
      do {
        again = false;
        await readSchema();
      } while (again);
    })();
    try {
      await running;
    } finally {
      running = undefined;
    }
  }

  await reload();
  await admin.driver.listen("pgrst", () => {
    reload().catch((error) => console.error("Cannot reload the schema cache", error));
  });

  async function fetch(request: Request, url: URL): Promise<Response> {
    const reading = request.method === "GET" || request.method === "HEAD";
    const profile = request.headers.get(reading ? "accept-profile" : "content-profile");
    const facts: RequestFacts = {
      caller: await callers.forDataApi(request, url),
      schema: profile ?? config.schemas[0] ?? "public",
      method: request.method,
      path: url.pathname.slice("/rest/v1".length),
      headers: Object.fromEntries(request.headers),
    };
    return await currentRequest.run(facts, () => answer(request, url, facts));
  }

  async function answer(request: Request, url: URL, facts: RequestFacts): Promise<Response> {
    const body = facts.method === "GET" || facts.method === "HEAD" ? null : await request.text();
    try {
      if (config.schemas.includes(facts.schema)) {
        const response = isPlainCall(request, url)
          ? await callFunction(api, callables, facts, body ?? "")
          : await answerTable(api, relations, facts, { url, body });
        if (response) return response;
      }
      const response = await app.fetch(forLibrary(request, body));
      return facts.failure && response.status >= 400 ? failureResponse(facts) : response;
    } catch (error) {
      if (facts.failure) return failureResponse(facts);
      if (isConnectionError(error)) return unreachableResponse();
      throw error;
    }
  }

  /** The caller is settled: the library gets a key it always accepts. */
  function forLibrary(request: Request, body: string | null): Request {
    const headers = new Headers(request.headers);
    headers.delete("authorization");
    headers.set("apikey", config.secretKey);
    return new Request(request.url, { method: request.method, headers, body });
  }

  return { fetch, reload };
}
