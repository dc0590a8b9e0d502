/** Broadcasting over HTTP: the batch endpoint and the single one. */
import type { Caller } from "../callers.ts";
import type { Message } from "./frames.ts";
import { rightsOf } from "./policies.ts";
import type { Realm } from "./admission.ts";

/** POST /api/broadcast: several messages; those the caller may not send are skipped. */
export async function broadcastBatch(realm: Realm, request: Request, url: URL): Promise<Response> {
  const caller = await realm.callers.byRequest(request, url);
  if (!caller) return unauthorized();
  const messages = parseBatch(await request.json().catch(() => undefined));
  if (!messages) return invalid({ messages: ["is invalid"] });
  for (const message of messages) {
    if (await maySend(realm, caller, message)) realm.hub.publish(message);
  }
  return accepted();
}

/** POST /api/broadcast/{topic}/events/{event}: the body is the payload, JSON or bytes. */
export async function broadcastOne(
  realm: Realm,
  request: Request,
  url: URL,
  { topic, event }: { topic: string; event: string },
): Promise<Response> {
  const caller = await realm.callers.byRequest(request, url);
  if (!caller) return unauthorized();
  const type = request.headers.get("content-type")?.split(";")[0]?.trim();
  const base = { topic, event, private: url.searchParams.get("private") === "true" };
  let message: Message;
  if (type === "application/octet-stream") {
    message = { ...base, bytes: new Uint8Array(await request.arrayBuffer()) };
  } else if (type === "application/json") {
    const payload = await request.json().catch(() => undefined);
    if (payload === undefined) return invalid({ payload: ["is invalid"] });
    message = { ...base, payload };
  } else {
    return json(415, { message: "Unsupported media type" });
  }
  if (!await maySend(realm, caller, message)) return json(403, { message: "Forbidden" });
  realm.hub.publish(message);
  return accepted();
}

async function maySend(realm: Realm, caller: Caller, message: Message): Promise<boolean> {
  return !message.private || (await rightsOf(realm.admin, caller, message.topic)).write;
}

function parseBatch(body: unknown): Message[] | undefined {
  const list = isRecord(body) ? body.messages : undefined;
  if (!Array.isArray(list)) return undefined;
  const messages: Message[] = [];
  for (const item of list) {
    if (!isRecord(item) || !isRecord(item.payload)) return undefined;
    const { topic, event, payload } = item;
    if (typeof topic !== "string" || topic === "" || typeof event !== "string") return undefined;
    messages.push({ topic, event, payload, private: item.private === true });
  }
  return messages;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function accepted(): Response {
  return new Response(null, { status: 202 });
}

function unauthorized(): Response {
  return json(401, { message: "Unauthorized" });
}

function invalid(errors: Record<string, string[]>): Response {
  return json(422, { errors });
}

function json(status: number, body: unknown): Response {
  return Response.json(body, { status });
}
