/**
 * The gateway of the embedded Supabase: one process, one port, for the Data API, Auth, Realtime
 * and the way to the function processes. A development stand-in; DIFFERENCES.md says where it
 * differs from a hosted project.
 */
import { createAuthApi } from "./auth_api.ts";
import {
  type GatewayConfig,
  parseLine,
  stdinLines,
  type SupervisorMessage,
  tell,
} from "./config.ts";
import { preflight, withCors } from "./cors.ts";
import { createDataApi } from "./data_api.ts";
import { connect } from "./database.ts";
import { FunctionRouter } from "./functions.ts";
import { createRealtime } from "./realtime.ts";
import { createCallers, DataApiRefusal } from "./callers.ts";
import { isConnectionError } from "./session.ts";

// postgres.js asks for the array types of each new connection in a promise that nobody holds: a
// database that goes away just then must not take the gateway along.
globalThis.addEventListener("unhandledrejection", (event) => {
  if (isConnectionError(event.reason)) event.preventDefault();
});

const lines = stdinLines();
const first = await lines.next();
if (first.done) Deno.exit(0);
const config = parseLine<GatewayConfig>(first.value);

const databases = connect(config);
const callers = createCallers(config);
const functions = new FunctionRouter();
const authApi = await createAuthApi(config, databases);
const dataApi = await createDataApi(config, databases, callers);
const realtime = await createRealtime(databases, callers);

/** Answer one request by the part its path names. */
function route(request: Request): Response | Promise<Response> {
  const url = new URL(request.url);
  const [, part, version] = url.pathname.split("/", 3);
  if (part === "functions" && version === "v1") return functions.forward(request, url);
  if (part === "realtime" && version === "v1") return realtime.handle(request, url);
  if (request.method === "OPTIONS") return preflight(request);
  if (part === "rest" && version === "v1") return withCors(dataApi.fetch(request, url));
  if (part === "auth" && version === "v1") return withCors(authApi(request));
  if (part === "health") return new Response("ok\n");
  return withCors(
    Response.json({ message: "no Route matched with those values" }, { status: 404 }),
  );
}

/** End PostgreSQL in order; where the kernel does it (Linux), or the supervisor, it is gone. */
function endDatabase(pid: number): void {
  try {
    if (pid > 0) Deno.kill(pid, "SIGINT");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

const server = Deno.serve(
  {
    hostname: "127.0.0.1",
    port: config.port,
    onListen: () => tell({ kind: "ready" }),
    onError: (error) => {
      if (error instanceof DataApiRefusal) {
        return withCors(Response.json(error.body, { status: 401 }));
      }
      console.error(error);
      return Response.json({ message: "Internal server error" }, { status: 500 });
    },
  },
  route,
);

let databasePid = config.databasePid;
for await (const line of lines) {
  const message = parseLine<SupervisorMessage>(line);
  if (message.kind === "database") databasePid = message.pid;
  if (message.kind === "functions") functions.replace(message.urls);
  if (message.kind === "reload") {
    await dataApi.reload();
    tell({ kind: "reloaded", id: message.id });
  }
}
// The supervisor is gone: nobody may be left serving.
endDatabase(databasePid);
realtime.close();
await Promise.race([server.shutdown(), new Promise((done) => setTimeout(done, 1000))]);
Deno.exit(0);
