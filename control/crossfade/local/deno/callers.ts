/** Who sends a request: API keys and access tokens, as the hosted gateway reads them. */
import type { GatewayConfig } from "./config.ts";

/** A caller's rights. */
export interface Caller {
  /** Database role. */
  role: string;
  /** Claims of the token, or of the token a key stands for. */
  claims: Record<string, unknown>;
  /** When the rights end, seconds since the epoch; undefined for keys. */
  expiresAt?: number;
}

/** Why a token is refused; the codes are Realtime's. */
export class TokenError extends Error {
  constructor(
    readonly code: "MalformedJWT" | "JwtSignatureError" | "InvalidJWTToken",
    text: string,
  ) {
    super(text);
  }
}

/** Why the Data API refuses a caller: the answer to give. */
export class DataApiRefusal extends Error {
  constructor(readonly body: Record<string, unknown>) {
    super(String(body.message));
  }
}

/** Tells callers apart. */
export interface Callers {
  /** The caller an API key stands for, undefined for an unknown key. */
  byKey(key: string | null): Caller | undefined;
  /** The caller of an access token. @throws TokenError */
  byToken(token: string): Promise<Caller>;
  /** The caller of an HTTP request: its user token if it has one, else its key. */
  byRequest(request: Request, url: URL): Promise<Caller | undefined>;
  /** The same for the Data API, which refuses with a reason. @throws DataApiRefusal */
  forDataApi(request: Request, url: URL): Promise<Caller>;
}

const MOST_REMEMBERED = 1000;

/** Create the caller look-up for one project. */
export function createCallers(config: GatewayConfig): Callers {
  const keys = new Map<string, Caller>([
    [config.publishableKey, { role: "anon", claims: { role: "anon" } }],
    [config.secretKey, { role: "service_role", claims: { role: "service_role" } }],
  ]);
  const verified = new Map<string, Caller>();
  const signingKey = crypto.subtle.importKey(
    "raw",
    new TextEncoder().encode(config.jwtSecret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["verify"],
  );

  function byKey(key: string | null): Caller | undefined {
    return key === null ? undefined : keys.get(key);
  }

  async function byToken(token: string): Promise<Caller> {
    const known = keys.get(token) ?? verified.get(token);
    if (known && !isExpired(known)) return known;
    const claims = await verify(token, await signingKey);
    const expiresAt = claims.exp;
    const role = claims.role;
    if (typeof role !== "string" || typeof expiresAt !== "number") {
      throw new TokenError("InvalidJWTToken", "Fields `role` and `exp` are required in JWT");
    }
    const age = Math.floor(Date.now() / 1000 - expiresAt);
    if (age >= 0) throw new TokenError("InvalidJWTToken", `Token has expired ${age} seconds ago`);
    if (verified.size >= MOST_REMEMBERED) verified.clear();
    const caller = { role, claims, expiresAt };
    verified.set(token, caller);
    return caller;
  }

  async function byRequest(request: Request, url: URL): Promise<Caller | undefined> {
    const key = request.headers.get("apikey") ?? url.searchParams.get("apikey");
    const bearer = request.headers.get("authorization")?.replace(/^Bearer\s+/i, "");
    const keyCaller = byKey(key);
    if (bearer === undefined || bearer === key) return keyCaller ?? byKey(bearer ?? null);
    try {
      return await byToken(bearer);
    } catch (error) {
      if (error instanceof TokenError) return undefined;
      throw error;
    }
  }

  async function forDataApi(request: Request, url: URL): Promise<Caller> {
    const key = request.headers.get("apikey") ?? url.searchParams.get("apikey");
    if (key === null) {
      throw new DataApiRefusal({
        message: "No API key found in request",
        hint: "No `apikey` request header or url param was found.",
      });
    }
    const caller = byKey(key);
    if (!caller) {
      throw new DataApiRefusal({
        message: "Invalid API key",
        hint: "Double check your Supabase `anon` or `service_role` API key.",
      });
    }
    const bearer = request.headers.get("authorization")?.replace(/^Bearer\s+/i, "");
    if (bearer === undefined || bearer === "" || bearer === key) return caller;
    try {
      return await byToken(bearer);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      throw new DataApiRefusal(tokenRefusal(error));
    }
  }

  return { byKey, byToken, byRequest, forDataApi };
}

function isExpired({ expiresAt }: Caller): boolean {
  return expiresAt !== undefined && expiresAt * 1000 <= Date.now();
}

/** PostgREST's words for a bad token. */
function tokenRefusal({ code, message }: TokenError): Record<string, unknown> {
  if (code === "InvalidJWTToken" && message.startsWith("Token has expired")) {
    return { code: "PGRST303", details: null, hint: null, message: "JWT expired" };
  }
  return {
    code: "PGRST301",
    details: "None of the keys was able to decode the JWT",
    hint: null,
    message: "No suitable key or wrong key type",
  };
}

async function verify(token: string, key: CryptoKey): Promise<Record<string, unknown>> {
  const [header, payload, signature, ...more] = token.split(".");
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) {
    throw new TokenError("MalformedJWT", "The token provided is not a valid JWT");
  }
  const signed = new TextEncoder().encode(`${header}.${payload}`);
  let valid: boolean;
  let claims: unknown;
  try {
    const algorithm = JSON.parse(new TextDecoder().decode(decodeBase64Url(header)));
    valid = algorithm?.alg === "HS256" &&
      await crypto.subtle.verify("HMAC", key, decodeBase64Url(signature), signed);
    claims = JSON.parse(new TextDecoder().decode(decodeBase64Url(payload)));
  } catch {
    throw new TokenError("MalformedJWT", "The token provided is not a valid JWT");
  }
  if (!valid) throw new TokenError("JwtSignatureError", "Failed to validate JWT signature");
  return claims as Record<string, unknown>;
}

function decodeBase64Url(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
