/** Both wire formats of Realtime: vsn 1.0.0 (JSON objects), vsn 2.0.0 (JSON arrays and bytes). */

/** The prefix of topics on the wire; HTTP and SQL leave it out. */
export const TOPIC_PREFIX = "realtime:";

/** Version of the wire format a socket asked for. */
export type Version = 1 | 2;

/** A frame, independent of its format. */
export interface Frame {
  joinRef: string | null;
  ref: string | null;
  topic: string;
  event: string;
  payload: unknown;
}

/** A message to broadcast: JSON in `payload`, or bytes in `bytes`. */
export interface Message {
  /** Without the prefix. */
  topic: string;
  event: string;
  private: boolean;
  payload?: unknown;
  bytes?: Uint8Array;
  meta?: Record<string, unknown>;
}

/** What a client sent: a frame, or a broadcast in the binary form. */
export type Incoming =
  | { kind: "frame"; frame: Frame }
  | { kind: "push"; joinRef: string | null; ref: string | null; topic: string; body: PushBody };

/** The event and content of a client's broadcast. */
export interface PushBody {
  event: string;
  payload?: unknown;
  bytes?: Uint8Array;
}

const CLIENT_BROADCAST = 3;
const SERVER_BROADCAST = 4;
const ENCODING_JSON = 1;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Encode a server frame. */
export function encodeFrame(version: Version, frame: Frame): string {
  const { joinRef, ref, topic, event, payload } = frame;
  return version === 2
    ? JSON.stringify([joinRef, ref, topic, event, payload])
    // The Python client needs the key `ref`, also when it is null.
    : JSON.stringify({ topic, event, payload, ref });
}

/** Encode a broadcast; undefined when this version cannot carry it (bytes in version 1). */
export function encodeBroadcast(
  version: Version,
  message: Message,
): string | Uint8Array | undefined {
  const { event, payload, bytes, meta } = message;
  const topic = TOPIC_PREFIX + message.topic;
  if (version === 2) return encodeBinary(topic, message);
  if (bytes) return undefined;
  const body = { type: "broadcast", event, payload, ...(meta ? { meta } : {}) };
  return encodeFrame(1, { joinRef: null, ref: null, topic, event: "broadcast", payload: body });
}

function encodeBinary(topic: string, { event, payload, bytes, meta }: Message): Uint8Array {
  const parts = [topic, event, meta ? JSON.stringify(meta) : ""].map((part) =>
    encoder.encode(part)
  );
  const content = bytes ?? encoder.encode(JSON.stringify(payload ?? null));
  const lengths = parts.map((part) => part.length);
  const header = [SERVER_BROADCAST, ...lengths, bytes ? 0 : ENCODING_JSON];
  return concat([Uint8Array.from(header), ...parts, content]);
}

function concat(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Decode what a client sent; undefined when it is malformed (the connection stays). */
export function decode(version: Version, data: string | ArrayBuffer): Incoming | undefined {
  try {
    if (typeof data !== "string") return decodeBinary(new Uint8Array(data));
    const frame = version === 2 ? arrayFrame(JSON.parse(data)) : objectFrame(JSON.parse(data));
    return frame && { kind: "frame", frame };
  } catch {
    return undefined;
  }
}

function arrayFrame(value: unknown): Frame | undefined {
  if (!Array.isArray(value) || value.length !== 5) return undefined;
  const [joinRef, ref, topic, event, payload] = value;
  return checked({ joinRef, ref, topic, event, payload });
}

function objectFrame(value: unknown): Frame | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { join_ref, ref, topic, event, payload } = value as Record<string, unknown>;
  return checked({ joinRef: join_ref, ref, topic, event, payload });
}

function checked(frame: Record<keyof Frame, unknown>): Frame | undefined {
  const { topic, event } = frame;
  if (typeof topic !== "string" || typeof event !== "string") return undefined;
  return {
    joinRef: text(frame.joinRef),
    ref: text(frame.ref),
    topic,
    event,
    payload: frame.payload,
  };
}

function text(value: unknown): string | null {
  return value === undefined || value === null ? null : String(value);
}

function decodeBinary(data: Uint8Array): Incoming | undefined {
  const [kind, ...head] = data.subarray(0, 7);
  if (kind !== CLIENT_BROADCAST || head.length < 6) return undefined;
  const encoding = head[5];
  let at = 7;
  const [joinRef = "", ref = "", topic = "", event = ""] = head.slice(0, 5).map((length) => {
    at += length;
    return decoder.decode(data.subarray(at - length, at));
  });
  const content = data.slice(at);
  const body = encoding === ENCODING_JSON
    ? { event, payload: JSON.parse(decoder.decode(content)) }
    : { event, bytes: content };
  return { kind: "push", joinRef: joinRef || null, ref: ref || null, topic, body };
}
