/** The Data API: the library's PostgREST work-alike with PostgREST's transaction around it. */
import { App } from "@supabase/lite";
import type { GatewayConfig } from "./config.ts";
import type { Databases } from "./database.ts";
import { failureResponse } from "./errors.ts";
import { currentRequest, type RequestFacts } from "./request_context.ts";

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
): Promise<DataApi> {
  let app: App;
  let running: Promise<void> | undefined;
  let again = false;

  async function readSchema(): Promise<void> {
    const [schema, roles] = await Promise.all([
      admin.introspect({ useCache: false }),
      admin.driver`
        select r.rolname as role, substring(c.setting from 'statement_timeout=(.*)') as timeout
        from pg_catalog.pg_roles as r, unnest(r.rolconfig) as c (setting)
        where c.setting like 'statement_timeout=%'`,
    ]);
    // Read as superuser, because information_schema hides from authenticator what it may not use.
    api.introspect = () => Promise.resolve(schema);
    api.roleTimeouts = new Map(roles.map((row) => [row.role, row.timeout]));
    api.retireSessions();
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
    const facts: RequestFacts = {
      method: request.method,
      path: url.pathname.slice("/rest/v1".length),
      headers: Object.fromEntries(request.headers),
    };
    const response = await currentRequest.run(facts, () => app.fetch(request));
    return facts.failure && response.status >= 400 ? failureResponse(facts, request) : response;
  }

  return { fetch, reload };
}
