/**
 * Realtime Broadcast, a development stand-in: it speaks the protocol of the official clients and
 * asks the same policies, but it is not Supabase Realtime and proves nothing about a hosted
 * project. No presence, no postgres_changes, no rate limits; DIFFERENCES.md has the whole list.
 */
import type { Callers } from "./callers.ts";
import { preflight, withCors } from "./cors.ts";
import type { Databases } from "./database.ts";
import type { Realm } from "./realtime/admission.ts";
import { listenToDatabase } from "./realtime/database_messages.ts";
import { broadcastBatch, broadcastOne } from "./realtime/http.ts";
import { Hub } from "./realtime/hub.ts";
import { ClientSocket } from "./realtime/socket.ts";

/** The handler of /realtime/v1. */
export interface Realtime {
  handle(request: Request, url: URL): Response | Promise<Response>;
  /** Close all sockets. */
  close(): void;
}

const BASE = "/realtime/v1";
const ONE_MESSAGE = /^\/api\/broadcast\/(.+)\/events\/([^/]+)$/;

/** Create the stand-in; it listens to the database from now on. */
export async function createRealtime({ admin }: Databases, callers: Callers): Promise<Realtime> {
  const hub = new Hub();
  const realm: Realm = { hub, callers, admin, refused: new Map() };
  const sockets = new Set<ClientSocket>();
  await listenToDatabase(admin, (message) => hub.publish(message));

  function connect(request: Request, url: URL): Response {
    const key = url.searchParams.get("apikey") ?? request.headers.get("x-api-key") ??
      request.headers.get("apikey");
    const caller = callers.byKey(key);
    if (!caller) return Response.json({ error: "API key is missing" }, { status: 401 });
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return Response.json({ error: "Not a websocket request" }, { status: 426 });
    }
    const version = url.searchParams.get("vsn") === "2.0.0" ? 2 : 1;
    const { socket, response } = Deno.upgradeWebSocket(request);
    const client = new ClientSocket(socket, version, caller, realm);
    sockets.add(client);
    socket.addEventListener("close", () => sockets.delete(client));
    return response;
  }

  function handle(request: Request, url: URL): Response | Promise<Response> {
    const path = url.pathname.slice(BASE.length);
    if (path === "/websocket") return connect(request, url);
    if (request.method === "OPTIONS") return preflight(request);
    if (request.method === "POST") {
      if (path === "/api/broadcast") return withCors(broadcastBatch(realm, request, url));
      const [, topic, event] = ONE_MESSAGE.exec(path) ?? [];
      if (topic !== undefined && event !== undefined) {
        const target = { topic: decodeURIComponent(topic), event: decodeURIComponent(event) };
        return withCors(broadcastOne(realm, request, url, target));
      }
      if (path.startsWith("/stand-in/")) return control(path.slice(10), request, url);
    }
    return withCors(Response.json({ message: "Not found" }, { status: 404 }));
  }

  /** What a test cannot make a real server do: refuse a join, kick, drop connections. */
  async function control(action: string, request: Request, url: URL): Promise<Response> {
    const caller = await callers.byRequest(request, url);
    if (caller?.role !== "service_role") return new Response(null, { status: 401 });
    const body = await request.json() as { topic?: string; message?: string };
    const { topic = "", message = "" } = body;
    if (action === "refuse") realm.refused.set(topic, message);
    else if (action === "allow") realm.refused.delete(topic);
    else if (action === "kick") sockets.forEach((client) => client.kick(topic, message));
    else if (action === "drop") sockets.forEach((client) => client.socket.close());
    else return new Response(null, { status: 404 });
    return new Response(null, { status: 204 });
  }

  return { handle, close: () => sockets.forEach((client) => client.socket.close()) };
}
