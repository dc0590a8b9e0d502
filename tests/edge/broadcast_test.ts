import assert from "node:assert/strict";
import {
  type BroadcastChannel,
  type BroadcastClient,
  listen,
} from "../../supabase/functions/_shared/crossfade/flags/broadcast.ts";

class FakeChannel implements BroadcastChannel {
  readonly callbacks = new Map<string, (message: unknown) => void>();
  status: (status: string) => void = () => {};

  on(_: "broadcast", { event }: { event: string }, callback: (message: unknown) => void) {
    this.callbacks.set(event, callback);
    return this;
  }

  subscribe(callback: (status: string) => void): this {
    this.status = callback;
    return this;
  }
}

function setUp() {
  const channels: FakeChannel[] = [];
  const asked: unknown[] = [];
  const heard: string[] = [];
  const removed: unknown[] = [];
  const client: BroadcastClient = {
    channel(topic, options) {
      asked.push([topic, options]);
      const channel = new FakeChannel();
      channels.push(channel);
      return channel;
    },
    removeChannel(channel) {
      removed.push(channel);
      return Promise.resolve("ok");
    },
  };
  const flags = {
    announce: (version?: unknown) =>
      void heard.push(version === undefined ? "refresh" : `version ${version}`),
    refreshNow: () => void heard.push("refresh"),
  };
  return { channels, asked, heard, removed, client, flags };
}

/** Lets a timer of 0 ms fire. */
function nextTimer(): Promise<void> {
  return new Promise((go) => setTimeout(go, 1));
}

Deno.test("listen() joins the private topic and takes every announced event as a hint", () => {
  const { channels, asked, heard, client, flags } = setUp();
  const stop = listen({ client, flags });
  assert.deepEqual(asked, [["crossfade:flags", { config: { private: true } }]]);
  const [channel] = channels;
  for (const event of ["flags_changed", "kill", "rollback"]) {
    channel?.callbacks.get(event)?.({ event, payload: { flags_version: 7 } });
  }
  assert.deepEqual(heard, ["version 7", "version 7", "version 7"]);
  stop();
});

Deno.test("listen() reads anew after every join: what was announced before is lost", () => {
  const { channels, heard, client, flags } = setUp();
  const stop = listen({ client, flags });
  channels[0]?.status("SUBSCRIBED");
  channels[0]?.status("SUBSCRIBED");
  assert.deepEqual(heard, ["refresh", "refresh"]);
  stop();
});

Deno.test("listen() takes a message it does not understand as a hint too", () => {
  const { channels, heard, client, flags } = setUp();
  const stop = listen({ client, flags });
  for (const message of [undefined, "x", {}, { payload: { flags_version: "7" } }]) {
    channels[0]?.callbacks.get("kill")?.(message);
  }
  assert.deepEqual(heard, Array(4).fill("refresh"));
  stop();
});

Deno.test("listen() makes a new channel when the server closed the old one", async () => {
  const { channels, removed, client, flags } = setUp();
  const stop = listen({ client, flags, rejoinMs: 0 });
  channels[0]?.status("CLOSED");
  await nextTimer();
  assert.equal(channels.length, 2);
  assert.deepEqual(removed, [channels[0]]);
  stop();
});

Deno.test("listen() leaves reconnecting after a lost socket to the client", async () => {
  const { channels, client, flags } = setUp();
  const stop = listen({ client, flags, rejoinMs: 0 });
  channels[0]?.status("CHANNEL_ERROR");
  channels[0]?.status("TIMED_OUT");
  await nextTimer();
  assert.equal(channels.length, 1);
  stop();
});

Deno.test("listen() survives a client that throws and tries again", async () => {
  const { channels, client, flags } = setUp();
  const logged: string[] = [];
  let fail = true;
  const flaky: BroadcastClient = {
    removeChannel: client.removeChannel,
    channel(topic, options) {
      if (!fail) return client.channel(topic, options);
      fail = false;
      throw new Error("no socket");
    },
  };
  const stop = listen({
    client: flaky,
    flags,
    rejoinMs: 0,
    log: (message) => logged.push(message),
  });
  await nextTimer();
  assert.equal(channels.length, 1);
  assert.equal(logged.length, 1);
  stop();
});

Deno.test("listen() ends for good when told to", async () => {
  const { channels, removed, client, flags } = setUp();
  listen({ client, flags, rejoinMs: 0 })();
  channels[0]?.status("CLOSED");
  await nextTimer();
  assert.equal(channels.length, 1);
  assert.deepEqual(removed, [channels[0]]);
});
