/** Messages that SQL sent: rows of realtime.messages, announced when they are committed. */
import type { PostgresConnection } from "@supabase/lite/postgres";
import type { Message } from "./frames.ts";

const KEPT_HOURS = 72;
const MAX_REPLAY = 25;

interface MessageRow {
  id: string;
  topic: string;
  event: string | null;
  private: boolean | null;
  payload: unknown;
  binary_payload?: Uint8Array | null;
}

/** Call back for each committed message, in commit order, until the process ends. */
export async function listenToDatabase(
  { driver }: PostgresConnection,
  publish: (message: Message) => void,
): Promise<void> {
  await driver`delete from realtime.messages
    where inserted_at < now() at time zone 'utc' - make_interval(hours => ${KEPT_HOURS})`;
  // A chain keeps the order when one message has to be fetched and the next one has not.
  let earlier: Promise<void> = Promise.resolve();
  let fetching = 0;
  await driver.listen("realtime_messages", (text) => {
    const row = JSON.parse(text) as MessageRow;
    if (row.topic !== undefined && fetching === 0) return publish(messageOf(row));
    fetching++;
    earlier = earlier.then(async () => {
      const whole = row.topic === undefined ? await fetchRow(driver, row.id) : row;
      if (whole) publish(messageOf(whole));
    }).catch((error) => console.error("Cannot fetch a message", error))
      .finally(() => fetching--);
  });
}

/** The parameters of a join's replay, or undefined when they are not valid. */
export function parseReplay(value: unknown): { since: number; limit: number } | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { since, limit = MAX_REPLAY } = value as Record<string, unknown>;
  const valid = Number.isInteger(since) && Number.isInteger(limit) &&
    Number(limit) > 0 && Number(limit) <= MAX_REPLAY;
  return valid ? { since: Number(since), limit: Number(limit) } : undefined;
}

/** Stored messages of a private channel since a time, oldest first, marked as replayed. */
export async function readReplay(
  { driver }: PostgresConnection,
  topic: string,
  { since, limit }: { since: number; limit: number },
): Promise<Message[]> {
  const rows = await driver<MessageRow[]>`
    select m.id, m.topic, m.event, m.private, m.payload, m.binary_payload
    from realtime.messages as m
    where m.topic = ${topic} and m.private and m.extension = 'broadcast'
      and m.inserted_at >= to_timestamp(${since / 1000}) at time zone 'utc'
    order by m.inserted_at desc
    limit ${limit}`;
  return rows.map((row) => messageOf(row, { replayed: true })).reverse();
}

async function fetchRow(
  driver: PostgresConnection["driver"],
  id: string,
): Promise<MessageRow | undefined> {
  const [row] = await driver<MessageRow[]>`
    select m.id, m.topic, m.event, m.private, m.payload, m.binary_payload
    from realtime.messages as m
    where m.id = ${id}`;
  return row;
}

function messageOf(row: MessageRow, more: Record<string, unknown> = {}): Message {
  return {
    topic: row.topic,
    event: row.event ?? "",
    private: row.private === true,
    meta: { id: row.id, ...more },
    ...(row.binary_payload ? { bytes: row.binary_payload } : { payload: row.payload }),
  };
}
