/** The way to the function processes. */
import { preflight, withCors } from "./cors.ts";

/** How long a process that refused a connection gets no requests. */
const DEAD_FOR_MS = 1000;

/**
 * For requests that must not be done twice. A kept connection that breaks makes fetch try again by
 * itself, and then "refused" no longer means that nobody got the request.
 */
const ONE_CONNECTION_EACH = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });

/** Sends each request to the next living process of its function. */
export class FunctionRouter {
  #urls = new Map<string, string[]>();
  #next = 0;
  readonly #deadUntil = new Map<string, number>();

  /** Use these processes from now on. */
  replace(urls: Record<string, string[]>): void {
    this.#urls = new Map(Object.entries(urls));
    this.#deadUntil.clear();
  }

  /** Forward a request for /functions/v1/<name>; the function sees the path /<name>. */
  async forward(request: Request, url: URL): Promise<Response> {
    const [, , , name = "", ...rest] = url.pathname.split("/");
    const processes = this.#urls.get(name);
    if (!processes) {
      if (request.method === "OPTIONS") return preflight(request);
      return withCors(Response.json(
        { code: "NOT_FOUND", message: "Requested function was not found" },
        { status: 404 },
      ));
    }
    const path = [name, ...rest].join("/") + url.search;
    // Buffered, because a body that is half sent cannot be sent to a second process.
    const body = request.body === null ? null : await request.arrayBuffer();
    for (const process of this.#living(processes)) {
      const response = await this.#send(process, path, request, url, body);
      if (response) return response;
    }
    return withCors(Response.json(
      { code: "BOOT_ERROR", message: "Function failed to start (please check logs)" },
      { status: 503 },
    ));
  }

  #living(processes: string[]): string[] {
    const now = Date.now();
    const start = this.#next++ % processes.length;
    const inTurn = [...processes.slice(start), ...processes.slice(0, start)];
    const living = inTurn.filter((process) => (this.#deadUntil.get(process) ?? 0) <= now);
    return living.length > 0 ? living : inTurn;
  }

  async #send(
    process: string,
    path: string,
    request: Request,
    url: URL,
    body: ArrayBuffer | null,
  ): Promise<Response | undefined> {
    const headers = new Headers(request.headers);
    headers.delete("host");
    headers.set("x-forwarded-host", url.host);
    headers.set("x-forwarded-proto", "http");
    try {
      return await fetch(`${process}/${path}`, {
        method: request.method,
        headers,
        body,
        redirect: "manual",
        signal: request.signal,
        ...(isSafe(request.method) ? {} : { client: ONE_CONNECTION_EACH }),
      });
    } catch (error) {
      if (request.signal.aborted) throw error;
      this.#deadUntil.set(process, Date.now() + DEAD_FOR_MS);
      if (isSafe(request.method) || isRefused(error)) return undefined; // the next process may
      // It died at work: what it did is not to be done a second time.
      return withCors(Response.json(
        { code: "WORKER_ERROR", message: "Function exited due to an error (please check logs)" },
        { status: 500 },
      ));
    }
  }
}

function isSafe(method: string): boolean {
  return method === "GET" || method === "HEAD" || method === "OPTIONS";
}

/** Deno tells only in words that no connection was made; other words count as "was made". */
function isRefused(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && cause.message.includes("client error (Connect)");
}
