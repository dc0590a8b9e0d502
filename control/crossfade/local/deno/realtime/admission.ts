/** Who may join a channel, and how. */
import type { PostgresConnection } from "@supabase/lite/postgres";
import { type Caller, type Callers, TokenError } from "../callers.ts";
import { parseReplay } from "./database_messages.ts";
import { TOPIC_PREFIX } from "./frames.ts";
import type { Hub } from "./hub.ts";
import { type Rights, rightsOf } from "./policies.ts";

/** What all sockets share. */
export interface Realm {
  hub: Hub;
  callers: Callers;
  admin: PostgresConnection;
  /** Topics whose joins are refused, with the reason: a hook for tests. */
  refused: Map<string, string>;
}

/** The terms on which a client is in a channel. */
export interface Admission {
  kind: "admitted";
  /** Without the prefix. */
  topic: string;
  isPrivate: boolean;
  /** Hears its own broadcasts. */
  self: boolean;
  /** Wants an answer to each broadcast. */
  ack: boolean;
  wantsPresence: boolean;
  wantsReplicationReady: boolean;
  replay: { since: number; limit: number } | undefined;
  caller: Caller;
  token: string | undefined;
  rights: Rights;
}

const EVERYTHING: Rights = { read: true, write: true };

/** Decide about a join; a refusal's reason is `Code: text`, as hosted Realtime writes it. */
export async function admit(
  realm: Realm,
  keyCaller: Caller,
  wireTopic: string,
  payload: Record<string, unknown>,
): Promise<Admission | { kind: "refused"; reason: string }> {
  const refuse = (reason: string) => ({ kind: "refused" as const, reason });
  const topic = wireTopic.startsWith(TOPIC_PREFIX) ? wireTopic.slice(TOPIC_PREFIX.length) : "";
  if (topic === "") return refuse("TopicNameRequired: You must provide a topic name");
  const planned = realm.refused.get(topic);
  if (planned !== undefined) return refuse(planned);
  const config = asRecord(payload.config);
  const broadcast = asRecord(config.broadcast);
  const isPrivate = flag(config.private);
  const token = jwtOf(payload.access_token);
  let caller: Caller;
  try {
    caller = token === undefined ? keyCaller : await realm.callers.byToken(token);
  } catch (error) {
    if (error instanceof TokenError) return refuse(`${error.code}: ${error.message}`);
    throw error;
  }
  const rights = await rightsIn(realm, caller, { topic, isPrivate });
  if (!rights.read) {
    return refuse(
      `Unauthorized: You do not have permissions to read from this Channel topic: ${topic}`,
    );
  }
  const replay = broadcast.replay ? parseReplay(broadcast.replay) : undefined;
  if (broadcast.replay && (!replay || !isPrivate)) {
    return refuse("UnableToReplayMessages: Replay needs a private channel, since and limit <= 25");
  }
  return {
    kind: "admitted",
    topic,
    isPrivate,
    self: flag(broadcast.self),
    ack: flag(broadcast.ack),
    wantsPresence: flag(asRecord(config.presence).enabled),
    wantsReplicationReady: flag(broadcast.replication_ready),
    replay,
    caller,
    token,
    rights,
  };
}

/** What a caller may do in a channel; a public one is open to everybody. */
export async function rightsIn(
  realm: Realm,
  caller: Caller,
  { topic, isPrivate }: { topic: string; isPrivate: boolean },
): Promise<Rights> {
  return isPrivate ? await rightsOf(realm.admin, caller, topic) : EVERYTHING;
}

/** Clients send booleans also as text. */
function flag(value: unknown): boolean {
  return value === true || value === "true";
}

/** The value as an object, empty when it is none. */
export function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

/** The value if it is a token; API keys sent as access tokens are ignored. */
export function jwtOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" && !value.startsWith("sb_") ? value : undefined;
}
