/**
 * Answers that are sent while they are made.
 *
 * @module
 */

import { problemBody } from "../_shared/crossfade/http/errors.ts";
import { convertEvent } from "./adapters/stream_adapter.ts";
import { finish, logRequest, type Progress, recordFailure, type Timing } from "./answering.ts";
import type { Options } from "./options.ts";
import { encodeEvent, type StreamEvent } from "../_shared/crossfade/http/sse.ts";
import type { Call, Events } from "./types.ts";

/**
 * Starts the work and returns its events in the client's format.
 *
 * A failure becomes a last event `error` with the problem document, because the status has been
 * sent. When the client goes away the work is told, and what it stores then is stored behind.
 */
export function streamEvents(
  options: Options,
  progress: Progress,
  { call, events, ...timing }: Timing & { readonly call: Call; readonly events: Events },
): ReadableStream<Uint8Array> {
  const gone = new AbortController();
  const encoder = new TextEncoder();
  const direction = { from: 2, to: call.negotiated.version } as const;
  let open = true;
  return new ReadableStream({
    start(sink) {
      const emit = (event: StreamEvent): void => {
        const converted = open ? convertEvent(options.converter, event, direction) : undefined;
        if (converted !== undefined) sink.enqueue(encoder.encode(encodeEvent(converted)));
      };
      const work = events(emit, gone.signal)
        .then((answer) => finish(options, call, { ...timing, answer }))
        .catch((error: unknown) => {
          const problem = recordFailure(options, progress, { ...timing, error });
          const at = { instance: progress.url.pathname, requestId: progress.requestId };
          emit({ event: "error", data: problemBody(problem, at) });
        })
        .finally(() => {
          logRequest(options, progress, { status: 200, ...timing });
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
