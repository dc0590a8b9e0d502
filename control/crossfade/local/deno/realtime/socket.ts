/** One client's WebSocket. */
import { type Caller, TokenError } from "../callers.ts";
import { type Admission, admit, asRecord, jwtOf, type Realm, rightsIn } from "./admission.ts";
import { readReplay } from "./database_messages.ts";
import {
  decode,
  encodeBroadcast,
  encodeFrame,
  type Frame,
  type PushBody,
  TOPIC_PREFIX,
  type Version,
} from "./frames.ts";
import type { Listener } from "./hub.ts";

interface Channel extends Admission {
  joinRef: string | null;
  listener: Listener;
  expiry: ReturnType<typeof setTimeout> | undefined;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Speaks the channel protocol with one client. */
export class ClientSocket {
  readonly #channels = new Map<string, Channel>();
  /** Frames are handled one after the other: a broadcast may follow its join at once. */
  #work: Promise<void> = Promise.resolve();

  constructor(
    readonly socket: WebSocket,
    readonly version: Version,
    readonly keyCaller: Caller,
    readonly realm: Realm,
  ) {
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = () => this.#leaveAll();
  }

  /** End a channel the way the server does: a system error, then phx_close. */
  kick(topic: string, message: string): void {
    const channel = this.#channels.get(topic);
    if (!channel) return;
    const payload = { extension: "system", status: "error", message, channel: topic };
    this.#send({
      joinRef: channel.joinRef,
      ref: null,
      topic: wire(topic),
      event: "system",
      payload,
    });
    this.#close(channel);
  }

  #receive(data: string | ArrayBuffer): void {
    const incoming = decode(this.version, data);
    if (!incoming) return;
    this.#work = this.#work.then(async () => {
      if (incoming.kind === "push") {
        this.#push(incoming.topic, incoming.joinRef, incoming.ref, incoming.body);
      } else {
        await this.#handle(incoming.frame);
      }
    }).catch((error) => console.error("Realtime frame failed", error));
  }

  async #handle(frame: Frame): Promise<void> {
    const payload = asRecord(frame.payload);
    switch (frame.event) {
      case "heartbeat":
        return this.#reply(frame, "ok", {});
      case "phx_join":
        return await this.#join(frame, payload);
      case "phx_leave":
        return this.#leave(frame);
      case "access_token":
        return await this.#refresh(frame.topic, payload.access_token);
      case "broadcast":
        return this.#push(frame.topic, frame.joinRef, frame.ref, {
          event: String(payload.event ?? ""),
          payload: payload.payload,
        });
    }
  }

  async #join(frame: Frame, payload: Record<string, unknown>): Promise<void> {
    const admission = await admit(this.realm, this.keyCaller, frame.topic, payload);
    if (admission.kind === "refused") {
      return this.#reply(frame, "error", { reason: admission.reason });
    }
    const { topic, isPrivate, replay } = admission;
    const earlier = this.#channels.get(topic);
    if (earlier) this.#close(earlier);
    const channel: Channel = {
      ...admission,
      joinRef: frame.joinRef ?? frame.ref,
      listener: { version: this.version, send: (data) => this.#write(data) },
      expiry: undefined,
    };
    this.#channels.set(topic, channel);
    this.#watchExpiry(channel);
    this.realm.hub.add(topic, isPrivate, channel.listener);
    this.#reply(frame, "ok", { postgres_changes: [] });
    this.#greet(channel);
    if (!replay) return;
    for (const message of await readReplay(this.realm.admin, topic, replay)) {
      const data = encodeBroadcast(this.version, message);
      if (data !== undefined) this.#write(data);
    }
  }

  #greet({ topic, joinRef, wantsPresence, wantsReplicationReady }: Channel): void {
    const push = (event: string, payload: unknown) =>
      this.#send({ joinRef, ref: null, topic: wire(topic), event, payload });
    if (wantsPresence) push("presence_state", {});
    if (wantsReplicationReady) {
      push("system", {
        extension: "system",
        status: "ok",
        message: "Replication connection established",
        channel: topic,
      });
    }
  }

  #leave(frame: Frame): void {
    this.#reply(frame, "ok", {});
    const channel = this.#channels.get(frame.topic.slice(TOPIC_PREFIX.length));
    if (channel) this.#close(channel);
  }

  async #refresh(wireTopic: string, value: unknown): Promise<void> {
    const channel = this.#channels.get(wireTopic.slice(TOPIC_PREFIX.length));
    const token = jwtOf(value);
    if (!channel || token === undefined || token === channel.token) return;
    try {
      const caller = await this.realm.callers.byToken(token);
      const rights = await rightsIn(this.realm, caller, channel);
      if (!rights.read) throw new TokenError("InvalidJWTToken", "Unauthorized");
      Object.assign(channel, { caller, rights, token });
      this.#watchExpiry(channel);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      this.kick(channel.topic, error.message);
    }
  }

  #push(wireTopic: string, joinRef: string | null, ref: string | null, body: PushBody): void {
    const channel = this.#channels.get(wireTopic.slice(TOPIC_PREFIX.length));
    // A refused write is silent, also when an answer was asked for: hosted Realtime does the same.
    if (!channel || !channel.rights.write) return;
    const { topic, isPrivate, listener, self, ack } = channel;
    this.realm.hub.publish({ topic, private: isPrivate, ...body }, self ? undefined : listener);
    if (ack) this.#reply({ joinRef, ref, topic: wireTopic }, "ok", {});
  }

  #watchExpiry(channel: Channel): void {
    clearTimeout(channel.expiry);
    const { expiresAt } = channel.caller;
    if (expiresAt === undefined) return;
    const wait = Math.min(expiresAt * 1000 - Date.now(), LONGEST_TIMER_MS);
    channel.expiry = setTimeout(() => {
      const age = Math.max(0, Math.floor(Date.now() / 1000 - expiresAt));
      this.kick(channel.topic, `Token has expired ${age} seconds ago`);
    }, Math.max(wait, 0));
  }

  #close(channel: Channel): void {
    this.#forget(channel);
    const { joinRef, topic } = channel;
    this.#send({ joinRef, ref: joinRef, topic: wire(topic), event: "phx_close", payload: {} });
  }

  #forget(channel: Channel): void {
    clearTimeout(channel.expiry);
    this.#channels.delete(channel.topic);
    this.realm.hub.remove(channel.topic, channel.isPrivate, channel.listener);
  }

  #leaveAll(): void {
    for (const channel of [...this.#channels.values()]) this.#forget(channel);
  }

  #reply(
    to: Pick<Frame, "joinRef" | "ref" | "topic">,
    status: "ok" | "error",
    response: Record<string, unknown>,
  ): void {
    const { joinRef, ref, topic } = to;
    this.#send({ joinRef, ref, topic, event: "phx_reply", payload: { status, response } });
  }

  #send(frame: Frame): void {
    this.#write(encodeFrame(this.version, frame));
  }

  #write(data: string | Uint8Array): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(data as string | Uint8Array<ArrayBuffer>);
  }
}

function wire(topic: string): string {
  return TOPIC_PREFIX + topic;
}
