/**
 * Which handler answers which address.
 *
 * @module
 */

import { SUPPORTED_VERSIONS } from "../../_shared/crossfade/contract.ts";
import { Problem } from "../../_shared/crossfade/http/errors.ts";
import { isUuid } from "../../_shared/crossfade/serve/claims.ts";
import { createChat } from "./chats.ts";
import { editMessage } from "./edits.ts";
import { forgetFact, listFacts, readState } from "./kept.ts";
import { createMessage, deleteMessage, getMessage, listMessages } from "./messages.ts";
import type { Tools } from "./tools.ts";
import { readHealth, rollBack } from "./operators.ts";
import { reply } from "./reply.ts";
import type { Model } from "../model/model.ts";
import type { Answer, Call } from "../types.ts";

export interface Route {
  readonly hasBody: boolean;
  /** Set for functions that operators use: the database decides who that is. */
  readonly operators?: true;
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

const MEMORIES: Methods = { GET: { hasBody: false, handle: listFacts } };
const HEALTH: Methods = { GET: { hasBody: false, operators: true, handle: readHealth } };
const ROLLBACK: Methods = { POST: { hasBody: true, operators: true, handle: rollBack } };
const RESOURCES: ReadonlyMap<string, Methods> = new Map([
  ["/chats", CHATS],
  ["/messages", MESSAGES],
  ["/reply", REPLY],
  ["/memories", MEMORIES],
  ["/health", HEALTH],
  ["/rollback", ROLLBACK],
]);

/** Resources with an id, by the path around it. */
const WITH_ID: readonly { readonly path: RegExp; readonly methods: (id: string) => Methods }[] = [
  { path: /^\/messages\/([^/]+)$/, methods: message },
  { path: /^\/memories\/([^/]+)$/, methods: memory },
  { path: /^\/chats\/([^/]+)\/state$/, methods: state },
];

function memory(id: string): Methods {
  return { DELETE: { hasBody: false, handle: (call, tools) => forgetFact(call, tools, id) } };
}

function state(id: string): Methods {
  return { GET: { hasBody: false, handle: (call, tools) => readState(call, tools, id) } };
}

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
  const plain = RESOURCES.get(resource);
  if (plain !== undefined) return plain;
  for (const { path, methods } of WITH_ID) {
    const id = path.exec(resource)?.[1];
    if (isUuid(id)) return methods(id.toLowerCase());
  }
  return undefined;
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
    resources: [
      "/chats",
      "/chats/{id}/state",
      "/messages",
      "/messages/{id}",
      "/reply",
      "/memories",
      "/memories/{id}",
    ],
    streams: "POST /reply with Accept: text/event-stream",
  };
}
