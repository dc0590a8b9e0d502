/**
 * The chat app over fakes, and requests to it.
 *
 * @module
 */

import { readBootstrap } from "../../supabase/functions/_shared/crossfade/flags/environment.ts";
import { CHAT as CHAT_FLAGS } from "../../supabase/functions/chat/adapters/feature_flags.ts";
import { FlagsClient } from "../../supabase/functions/_shared/crossfade/flags/flags_client.ts";
import type { RequestEvent } from "../../supabase/functions/_shared/crossfade/serve/metrics.ts";
import type { Row } from "../../supabase/functions/_shared/crossfade/flags/snapshot.ts";
import { type App, type AppOptions, createApp } from "../../supabase/functions/chat/app.ts";
import type { Rows } from "./builders.ts";
import { FakeClock } from "./fake_clock.ts";
import { FakeDatabase } from "./fake_database.ts";
import { FakeFeatures } from "./fake_features.ts";
import { converter, FakeStore } from "./fake_store.ts";

export const USER = "0b4a1c52-7a35-4b6e-9a55-0d0a3f2f6c01";
export const CHAT = "9d3c5a4e-1f0b-4c77-8d0e-6a2b3c4d5e6f";

export interface Chat {
  readonly app: App;
  readonly store: FakeStore;
  readonly features: FakeFeatures;
  readonly database: FakeDatabase;
  readonly flags: FlagsClient;
  readonly clock: FakeClock;
  readonly events: RequestEvent[];
  readonly logged: string[];
  readonly work: Promise<unknown>[];
}

/** Makes the app with a pair in one stage. */
export function makeChat(pair: Row, rows: Rows = {}, options: Partial<AppOptions> = {}): Chat {
  const database = new FakeDatabase({
    ...rows,
    pairs: [{ name: "chat_messages", cohort: { percentage: 100 }, ...pair }],
  });
  const logged: string[] = [];
  const log = (message: string): void => void logged.push(message);
  const clock = new FakeClock();
  const bootstrap = readBootstrap({}, CHAT_FLAGS);
  const flags = new FlagsClient({ database, bootstrap, clock, log });
  const store = new FakeStore();
  const features = new FakeFeatures();
  const events: RequestEvent[] = [];
  const work: Promise<unknown>[] = [];
  const app = createApp({
    openStore: () => store,
    openFeatures: () => features,
    openOperator: () => ({ call: () => Promise.reject(new Error("no operators here")) }),
    converter,
    flags,
    recorder: { record: (event) => events.push(event) },
    background: (promise) => work.push(promise),
    log,
    ...options,
  });
  return { app, store, features, database, flags, clock, events, logged, work };
}

/** A token as Supabase Auth makes it; the fakes verify nothing, as the function does not either. */
export function tokenOf(userId: string): string {
  const part = (value: unknown): string =>
    btoa(JSON.stringify(value)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `${part({ alg: "HS256" })}.${part({ sub: userId, role: "authenticated" })}.c2ln`;
}

export interface Ask {
  readonly method?: string;
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly user?: string | null;
}

export function ask({ method, path, body, headers = {}, user = USER }: Ask): Request {
  const all = new Headers(headers);
  if (user !== null) all.set("authorization", `Bearer ${tokenOf(user)}`);
  if (body !== undefined && !all.has("content-type")) all.set("content-type", "application/json");
  return new Request(`http://edge.test/chat${path}`, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: all,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

export interface Told {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
  readonly backend: string | null;
}

export async function tell(chat: Pick<Chat, "app">, request: Ask): Promise<Told> {
  const response = await chat.app(ask(request));
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text === "" ? {} : JSON.parse(text),
    backend: response.headers.get("x-crossfade-backend"),
  };
}

/** A new message in the format of a version. */
export function newMessage(version: number, text = "hello"): Record<string, unknown> {
  const content = version === 1 ? text : [{ type: "text", text }];
  return { chat_id: CHAT, role: "user", content };
}
