/** Row-level security on realtime.messages decides about private channels. */
import type { PostgresConnection } from "@supabase/lite/postgres";
import type { Caller } from "../callers.ts";

/** What a caller may do in a private channel. */
export interface Rights {
  /** May join and receive: a SELECT policy passes. */
  read: boolean;
  /** May send: an INSERT policy passes. */
  write: boolean;
}

class Undo extends Error {}

/**
 * Ask the policies, with the caller's claims and `realtime.topic()` set.
 * A probe row is inserted and looked up in a transaction that is always rolled back, which is how
 * hosted Realtime asks.
 */
export async function rightsOf(
  { driver }: PostgresConnection,
  caller: Caller,
  topic: string,
): Promise<Rights> {
  if (caller.role === "service_role") return { read: true, write: true }; // bypasses RLS
  const rights = { read: false, write: false };
  const probe = { id: crypto.randomUUID(), topic, extension: "broadcast", private: true };
  try {
    await driver.begin(async (sql) => {
      await sql`insert into realtime.messages ${sql(probe)}`;
      await sql`select
        set_config('request.jwt.claims', ${JSON.stringify(caller.claims)}, true),
        set_config('request.jwt.claim.sub', ${String(caller.claims.sub ?? "")}, true),
        set_config('request.jwt.claim.role', ${caller.role}, true),
        set_config('realtime.topic', ${topic}, true),
        set_config('role', ${caller.role}, true)`;
      const seen = await sql`select from realtime.messages where id = ${probe.id}`;
      rights.read = seen.length > 0;
      await sql`insert into realtime.messages ${sql({ ...probe, id: crypto.randomUUID() })}`;
      rights.write = true;
      throw new Undo();
    });
  } catch (error) {
    // A policy or grant that says no, or a role that does not exist, is an answer.
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (!(error instanceof Undo) && code !== "42501" && code !== "22023") throw error;
  }
  return rights;
}
