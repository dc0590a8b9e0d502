/**
 * Server-sent events: writing them, and reading a stream of them.
 *
 * @module
 */

/** One event with a JSON body. */
export interface StreamEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** An event as it was read; the body may be no JSON. */
export interface RawEvent {
  readonly event: string;
  readonly data: string;
}

// A client may not make us hold a line without end.
const LONGEST_EVENT = 4 * 1024 * 1024;

/** Returns the text of an event. JSON has no line breaks of its own, so one data line is enough. */
export function encodeEvent({ event, data }: StreamEvent): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/**
 * Reads events as they arrive; a last one that is not finished by an empty line is not told.
 *
 * @throws {RangeError} if one event is larger than 4 Mi characters
 */
export async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<RawEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  let event = "message";
  let data: string[] = [];
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    // A lone carriage return at the end may be half of a line break.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { event, data: data.join("\n") };
        event = "message";
        data = [];
        continue;
      }
      const [, field = "", value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line) ?? [];
      if (field === "event") event = value;
      else if (field === "data") data.push(value);
    }
    if (rest.length + data.reduce((sum, line) => sum + line.length, 0) > LONGEST_EVENT) {
      throw new RangeError(`An event is larger than ${LONGEST_EVENT} characters`);
    }
  }
}
