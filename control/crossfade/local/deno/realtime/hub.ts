/** Who listens to what. */
import { encodeBroadcast, type Message, type Version } from "./frames.ts";

/** A socket's place in a channel. */
export interface Listener {
  version: Version;
  send(data: string | Uint8Array): void;
}

/** Delivers messages; the private and the public channel of one name are two channels. */
export class Hub {
  readonly #channels = new Map<string, Set<Listener>>();

  /** Let a listener hear a channel. */
  add(topic: string, isPrivate: boolean, listener: Listener): void {
    const key = channelKey(topic, isPrivate);
    const channel = this.#channels.get(key);
    if (channel) channel.add(listener);
    else this.#channels.set(key, new Set([listener]));
  }

  /** Let it hear the channel no more. */
  remove(topic: string, isPrivate: boolean, listener: Listener): void {
    const key = channelKey(topic, isPrivate);
    const channel = this.#channels.get(key);
    channel?.delete(listener);
    if (channel?.size === 0) this.#channels.delete(key);
  }

  /** Send a message to everybody in its channel but one; each format is encoded once. */
  publish(message: Message, except?: Listener): void {
    const channel = this.#channels.get(channelKey(message.topic, message.private));
    if (!channel) return;
    const encoded = new Map<Version, string | Uint8Array | undefined>();
    for (const listener of channel) {
      if (listener === except) continue;
      if (!encoded.has(listener.version)) {
        encoded.set(listener.version, encodeBroadcast(listener.version, message));
      }
      const data = encoded.get(listener.version);
      if (data !== undefined) listener.send(data);
    }
  }
}

function channelKey(topic: string, isPrivate: boolean): string {
  return `${isPrivate ? "private" : "public"}:${topic}`;
}
