/**
 * Answers that are sent while they are made.
 *
 * @module
 */

import { problemBody } from "../http/errors.ts";
import { encodeEvent, type StreamEvent } from "../http/sse.ts";
import { finish, logRequest, recordFailure, type Running } from "./answering.ts";
import type { Call, Events } from "./call.ts";

/**
 * Starts the work and returns its events in the client's format.
 *
 * A failure becomes a last event `error` with the problem document, because the status has been
 * sent. When the client goes away the work is told, and what it stores then is stored behind.
 */
export function streamEvents(
  running: Running,
  call: Call,
  events: Events,
): ReadableStream<Uint8Array> {
  const { options, progress } = running;
  const gone = new AbortController();
  const encoder = new TextEncoder();
  let open = true;
  return new ReadableStream({
    start(sink) {
      const emit = (event: StreamEvent): void => {
        const shown = open ? options.convertEvent(event, call.negotiated.version) : undefined;
        if (shown !== undefined) sink.enqueue(encoder.encode(encodeEvent(shown)));
      };
      const work = events(emit, gone.signal)
        .then((answer) => finish(running, call, answer))
        .catch((error: unknown) => {
          const problem = recordFailure(running, error);
          const at = { instance: progress.url.pathname, requestId: progress.requestId };
          emit({ event: "error", data: problemBody(problem, at) });
        })
        .finally(() => {
          logRequest(running, 200);
          if (open) sink.close();
          open = false;
        });
      options.background(work);
    },
    cancel() {
      open = false;
      gone.abort();
    },
  });
}
