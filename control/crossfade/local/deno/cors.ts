/** CORS as the hosted gateway answers it: any origin, whatever headers the browser asks for. */

const METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

/** Answer a preflight request. */
export function preflight(request: Request): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-origin": "*",
      "access-control-allow-methods": METHODS,
      "access-control-allow-headers": request.headers.get("access-control-request-headers") ?? "*",
      "access-control-max-age": "3600",
    },
  });
}

/** Let scripts of any origin read the answer. */
export async function withCors(answer: Response | Promise<Response>): Promise<Response> {
  const response = await answer;
  if (response.headers.has("access-control-allow-origin")) return response;
  try {
    setCors(response.headers);
    return response;
  } catch { // immutable headers of a fetched response
    const copy = new Response(response.body, response);
    setCors(copy.headers);
    return copy;
  }
}

function setCors(headers: Headers): void {
  headers.set("access-control-allow-origin", "*");
  headers.set(
    "access-control-expose-headers",
    "content-encoding, content-location, content-range, content-type, date, location, server, " +
      "transfer-encoding, range-unit",
  );
}
