/** Connections to PostgreSQL. */
import { PostgresConnection } from "@supabase/lite/postgres";
import type { GatewayConfig } from "./config.ts";
import { ApiConnection } from "./request_context.ts";

/** The two ways into the database. */
export interface Databases {
  /** As the superuser: Auth's own tables, schema cache, Realtime. */
  admin: PostgresConnection;
  /** As authenticator, for the Data API: every request switches to its caller's role. */
  api: ApiConnection;
  /** A URL for further connections. */
  url: (user: string) => string;
}

/** Describe the connections; they are opened when first used. */
export function connect(config: GatewayConfig): Databases {
  const url = (user: string) => `postgres://${user}@127.0.0.1:${config.databasePort}/postgres`;
  return {
    url,
    admin: new PostgresConnection({
      url: url("supabase_admin"),
      postgresOptions: { max: 4, types: WIRE_TYPES, onnotice: () => {} },
    }),
    api: new ApiConnection(url("authenticator"), {
      max: 2, // beside the sessions of requests: the library has questions of its own
      types: WIRE_TYPES,
      onnotice: () => {},
      connection: { TimeZone: "UTC" },
    }),
  };
}

/**
 * How values cross the border between PostgreSQL's text and JavaScript, so that the JSON that comes
 * out is what PostgREST prints with to_json: ISO 8601 timestamps, JSON that is encoded once,
 * numeric as number.
 */
export const WIRE_TYPES = {
  timestamp: { to: 1114, from: [1114], serialize: same, parse: isoTimestamp },
  timestamptz: { to: 1184, from: [1184], serialize: same, parse: isoTimestamp },
  json: { to: 114, from: [114], serialize: jsonText, parse: parseJson },
  jsonb: { to: 3802, from: [3802], serialize: jsonText, parse: parseJson },
  numeric: { to: 1700, from: [1700], serialize: String, parse: numericValue },
};

function same<T>(value: T): T {
  return value;
}

function jsonText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function parseJson(text: string): unknown {
  return JSON.parse(text);
}

function numericValue(text: string): number | string {
  const value = Number(text);
  return Number.isFinite(value) ? value : text;
}

/** Turn `2026-11-22 20:00:00.5+00` into `2026-11-22T20:00:00.5+00:00`. */
export function isoTimestamp(text: string): string {
  if (text.charCodeAt(10) !== 0x20) return text; // infinity, or a year beyond 9999
  const iso = `${text.slice(0, 10)}T${text.slice(11)}`;
  return /[+-]\d\d$/.test(iso) ? `${iso}:00` : iso;
}
