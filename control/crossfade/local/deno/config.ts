/** What the supervisor tells the gateway, one JSON line on stdin each. */

/** The first line: everything that stays the same while the gateway runs. */
export interface GatewayConfig {
  /** Port of 127.0.0.1 to serve on. */
  port: number;
  /** Port of PostgreSQL on 127.0.0.1. */
  databasePort: number;
  /** Its process id; 0 when unknown. */
  databasePid: number;
  publishableKey: string;
  secretKey: string;
  /** Signs the access tokens of Auth (HS256). */
  jwtSecret: string;
  /** Schemas of the Data API; the first is the default one. */
  schemas: string[];
}

/** Every later line. */
export type SupervisorMessage =
  /** The function processes that take requests now, by function name. */
  | { kind: "functions"; urls: Record<string, string[]> }
  /** PostgreSQL was started again. */
  | { kind: "database"; pid: number }
  /** Read the schema cache again; answered by {"kind":"reloaded","id":…}. */
  | { kind: "reload"; id: number };

/** Lines of stdout. */
export type GatewayMessage =
  | { kind: "ready" }
  | { kind: "reloaded"; id: number }
  | { kind: "failed"; message: string };

/** Parse a line of stdin; the supervisor is trusted, a line that is no JSON is a bug. */
export function parseLine<T>(line: string): T {
  return JSON.parse(line) as T;
}

/** Tell the supervisor something. */
export function tell(message: GatewayMessage): void {
  const bytes = new TextEncoder().encode(JSON.stringify(message) + "\n");
  Deno.stdout.writeSync(bytes);
}

/** The lines of stdin; the end means that the supervisor is gone. */
export async function* stdinLines(): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield line;
  }
}
