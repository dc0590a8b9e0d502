/**
 * What negotiation, flags and conversion add to a request.
 *
 * `serve empty` answers a constant; `serve app` is the chat function over rows in memory, for clients
 * of V1 while backend 2 serves. Both print where they listen. `ask EMPTY APP ROUNDS` sends the same
 * requests to both, one at a time and in turn, and prints one JSON object a round: the median of each
 * server in microseconds. `load APP SECONDS` keeps 32 requests in flight and prints how many were
 * answered. Run by tests/bench.
 *
 * @module
 */

import type { App } from "../../supabase/functions/chat/app.ts";
import type { Message } from "../../supabase/functions/chat/types.ts";
import { ask, makeChat, newMessage } from "./chat_fixture.ts";

const [mode = "", ...rest] = Deno.args;
const REQUESTS = 1_000;

async function serve(kind: string): Promise<void> {
  const { handler, id } = kind === "app" ? await app() : { handler: empty, id: "one" };
  Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => console.log(JSON.stringify({ port, id })),
  }, handler);
}

const BODY = JSON.stringify({ id: crypto.randomUUID(), ...newMessage(1) });

function empty(): Response {
  return new Response(BODY, { headers: { "content-type": "application/json" } });
}

async function app(): Promise<{ readonly handler: App; readonly id: string }> {
  const flags = [{ name: "use_advanced_messages", percentage: 100, killed_by: ["stop"] }];
  const rows = { flags, kill_switches: [{ name: "stop", engaged: false }] };
  const chat = makeChat({ stage: "live", gate_flag: "use_advanced_messages" }, rows, {
    recorder: { record: () => {} },
    background: (work) => void work.catch(() => {}),
  });
  // The database mirrors, not the function.
  chat.store.mirrored = false;
  const first = await chat.app(ask({ path: "/messages", body: newMessage(1) }));
  if (first.headers.get("x-crossfade-backend") !== "2") throw new Error("Backend 2 does not serve");
  const row: Message = await first.json();
  const stored = chat.store.tables[2];
  const kept = stored.get(String(row.id));
  const handler: App = (request) => {
    // What is kept must not grow while it is measured.
    if (stored.size > 1_000 && kept !== undefined) {
      stored.clear();
      stored.set(String(row.id), kept);
      chat.store.calls.length = 0;
    }
    return chat.app(request);
  };
  return { handler, id: String(row.id) };
}

/** One message and a new message, as clients of V1 ask for them. */
const KINDS = {
  read: (id: string) => ask({ path: `/messages/${id}` }),
  create: () => ask({ path: "/messages", body: newMessage(1, "a few words of chat ".repeat(8)) }),
};

interface Server {
  readonly port: number;
  readonly id: string;
}

async function compare(servers: { empty: Server; app: Server }, rounds: number): Promise<void> {
  const wires = {
    empty: await Wire.open(servers.empty.port),
    app: await Wire.open(servers.app.port),
  };
  for (let round = -1; round < rounds; round++) {
    const found: Record<string, number> = {};
    for (const [kind, make] of Object.entries(KINDS)) {
      const bytes = await bytesOf(make(servers.app.id));
      const times = { empty: [] as number[], app: [] as number[] };
      for (let i = 0; i < REQUESTS; i++) {
        const order = i % 2 === 0 ? ["empty", "app"] as const : ["app", "empty"] as const;
        for (const name of order) times[name].push(await wires[name].timed(bytes));
      }
      found[`${kind} empty`] = median(times.empty);
      found[`${kind} app`] = median(times.app);
    }
    // The first round warms up both sides.
    if (round >= 0) console.log(JSON.stringify(found));
  }
}

/** Keeps a server busy with both kinds of request. */
async function load({ port, id }: Server, seconds: number): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let answered = 0;
  const requests = [await bytesOf(KINDS.read(id)), await bytesOf(KINDS.create())];
  const client = async (): Promise<void> => {
    const wire = await Wire.open(port);
    while (performance.now() < end) {
      for (const bytes of requests) await wire.timed(bytes);
      answered += requests.length;
    }
  };
  await Promise.all(Array.from({ length: 32 }, client));
  return answered;
}

/**
 * A connection that is kept open: an HTTP client's own work would be most of what is measured.
 * Knows as much of HTTP as these two servers use.
 */
class Wire {
  readonly #connection: Deno.Conn;
  readonly #buffer = new Uint8Array(65_536);

  private constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  static async open(port: number): Promise<Wire> {
    return new Wire(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** Sends a request and reads its answer; returns how long that took in microseconds. */
  async timed(bytes: Uint8Array): Promise<number> {
    const start = performance.now();
    await this.#connection.write(bytes);
    let text = "";
    let wanted = Infinity;
    while (text.length < wanted) {
      const count = await this.#connection.read(this.#buffer);
      if (count === null) throw new Error("The server closed the connection");
      text += latin.decode(this.#buffer.subarray(0, count));
      const end = text.indexOf("\r\n\r\n");
      const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1];
      if (end >= 0) wanted = end + 4 + Number(length);
    }
    const elapsed = performance.now() - start;
    if (!/^HTTP\/1.1 20/.test(text)) throw new Error(text);
    return elapsed * 1000;
  }
}

const latin = new TextDecoder("latin1");

/** Returns a request as it goes over the wire. */
async function bytesOf(request: Request): Promise<Uint8Array> {
  const body = await request.text();
  const { pathname, search } = new URL(request.url);
  const headers = [...request.headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const length = new TextEncoder().encode(body).length;
  const head = `${request.method} ${pathname}${search} HTTP/1.1\r\nhost: 127.0.0.1\r\n${headers}`;
  return new TextEncoder().encode(`${head}content-length: ${length}\r\n\r\n${body}`);
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

if (mode === "serve") await serve(rest[0] ?? "empty");
else if (mode === "load") console.log(await load(JSON.parse(rest[0] ?? ""), Number(rest[1])));
else {
  const [empty = "", app = "", rounds = ""] = rest;
  await compare({ empty: JSON.parse(empty), app: JSON.parse(app) }, Number(rounds));
}
