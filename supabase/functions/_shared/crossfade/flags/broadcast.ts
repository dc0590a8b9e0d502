/**
 * Listens for announced changes. A message is only a hint to read again: delivery is not promised.
 *
 * @module
 */

import { BROADCAST_EVENTS, BROADCAST_TOPIC } from "../contract.ts";
import type { FlagsClient } from "./flags_client.ts";
import { isRow } from "./snapshot.ts";

/** The part of a supabase-js channel that is used. */
export interface BroadcastChannel {
  on(
    type: "broadcast",
    filter: { event: string },
    callback: (message: unknown) => void,
  ): BroadcastChannel;
  subscribe(callback: (status: string) => void): unknown;
}

/** The part of a supabase-js client that is used. */
export interface BroadcastClient {
  channel(topic: string, options: { config: { private: boolean } }): BroadcastChannel;
  // Typed loosely: the channel goes back to the client that made it.
  removeChannel(channel: never): Promise<unknown>;
}

export interface ListenOptions {
  readonly client: BroadcastClient;
  readonly flags: Pick<FlagsClient, "announce" | "refreshNow">;
  /** Wait before a closed channel is joined again. @defaultValue 5000 */
  readonly rejoinMs?: number;
  readonly log?: (message: string, error: unknown) => void;
}

/**
 * Subscribes to the topic and refreshes the flags on every message and on every (re)join.
 *
 * supabase-js reconnects after a lost socket by itself, but a channel closed by the server (rate
 * limit, expired token) stays closed: then a new one is made. Failures are logged and never thrown;
 * without the subscription the flags still refresh by age.
 *
 * @returns a function that ends the subscription
 */
export function listen({ client, flags, rejoinMs = 5_000, log }: ListenOptions): () => void {
  let ended = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let current: BroadcastChannel | undefined;

  const onMessage = (message: unknown): void => {
    const payload = isRow(message) && isRow(message.payload) ? message.payload : {};
    const { flags_version: version } = payload;
    flags.announce(typeof version === "number" ? version : undefined);
  };
  const leave = (): void => {
    const channel = current;
    current = undefined;
    if (channel === undefined) return;
    client.removeChannel(channel as never).catch((error: unknown) => log?.("Cannot leave", error));
  };
  const join = (): void => {
    if (ended) return;
    try {
      const channel = client.channel(BROADCAST_TOPIC, { config: { private: true } });
      current = channel;
      for (const event of Object.keys(BROADCAST_EVENTS)) {
        channel.on("broadcast", { event }, onMessage);
      }
      channel.subscribe((status) => {
        if (channel !== current) return;
        // What was announced while nobody listened is lost, so joining is itself a hint.
        if (status === "SUBSCRIBED") flags.refreshNow();
        else if (status === "CLOSED") later();
      });
    } catch (error) {
      log?.(`Cannot listen to ${BROADCAST_TOPIC}`, error);
      later();
    }
  };
  const later = (): void => {
    leave();
    clearTimeout(timer);
    if (!ended) timer = setTimeout(join, rejoinMs);
  };
  join();
  return () => {
    ended = true;
    clearTimeout(timer);
    leave();
  };
}
