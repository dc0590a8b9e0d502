/**
 * Which handler answers which address.
 *
 * @module
 */

import { SUPPORTED_VERSIONS } from "../_shared/crossfade/contract.ts";
import { Problem } from "../_shared/crossfade/errors.ts";
import { isUuid } from "./claims.ts";
import { createChat } from "./handlers/chats.ts";
import { editMessage } from "./handlers/edits.ts";
import { createMessage, deleteMessage, getMessage, listMessages } from "./handlers/messages.ts";
import type { Tools } from "./handlers/tools.ts";
import { reply } from "./handlers/reply.ts";
import type { Model } from "./model.ts";
import type { Answer, Call } from "./types.ts";

export interface Route {
  readonly hasBody: boolean;
  handle(call: Call, tools: Tools & { readonly model: Model }): Promise<Answer>;
}

type Methods = Readonly<Record<string, Route>>;

const CHATS: Methods = { POST: { hasBody: true, handle: createChat } };
const REPLY: Methods = {
  POST: { hasBody: true, handle: (call, tools) => reply(call, tools, tools.model) },
};
const MESSAGES: Methods = {
  GET: { hasBody: false, handle: listMessages },
  POST: { hasBody: true, handle: createMessage },
};

function message(id: string): Methods {
  return {
    GET: { hasBody: false, handle: (call, tools) => getMessage(call, tools, id) },
    PATCH: { hasBody: true, handle: (call, tools) => editMessage(call, tools, id) },
    DELETE: { hasBody: false, handle: (call, tools) => deleteMessage(call, tools, id) },
  };
}

/**
 * Finds the handler.
 *
 * @throws {Problem} 404 for an unknown address, 405 for a method that it does not have
 */
export function findRoute(method: string, resource: string): Route {
  const methods = findResource(resource);
  if (methods === undefined) {
    const detail = `There is nothing at "${resource}"`;
    throw new Problem("not-found", { status: 404, detail });
  }
  const route = methods[method];
  if (route !== undefined) return route;
  const headers = { Allow: [...Object.keys(methods), "OPTIONS"].join(", ") };
  const detail = `"${resource}" does not have the method ${method}`;
  throw new Problem("method-not-allowed", { status: 405, detail, headers });
}

function findResource(resource: string): Methods | undefined {
  if (resource === "/chats") return CHATS;
  if (resource === "/messages") return MESSAGES;
  if (resource === "/reply") return REPLY;
  const id = /^\/messages\/([^/]+)$/.exec(resource)?.[1];
  return isUuid(id) ? message(id.toLowerCase()) : undefined;
}

/** What `OPTIONS` without a preflight tells. */
export function discovery(): Readonly<Record<string, unknown>> {
  return {
    name: "chat",
    supported_versions: SUPPORTED_VERSIONS.map(String),
    default_version: "1",
    version_sources: {
      header: "X-API-Version: 2",
      accept: "application/json;version=2 or application/vnd.crossfade.v2+json",
      url: "/chat/v2/...",
    },
    resources: ["/chats", "/messages", "/messages/{id}", "/reply"],
  };
}
