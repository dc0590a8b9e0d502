/**
 * The chat function: the kit with chat's addresses, conversions and rules.
 *
 * @module
 */

import { Problem } from "../_shared/crossfade/http/errors.ts";
import { type Body, type Call, isObject } from "../_shared/crossfade/serve/call.ts";
import { isUuid } from "../_shared/crossfade/serve/claims.ts";
import { type App, createCrossfadeFunction } from "../_shared/crossfade/serve/create.ts";
import { loggable } from "../_shared/crossfade/serve/loggable.ts";
import { convertEvent, detectVersion, routeRequest } from "./adapters/api_version_router.ts";
import { CHAT, isKept } from "./adapters/feature_flags.ts";
import { chatRoutes } from "./handlers/routes.ts";
import { BUILT_IN_NAME, builtInModel } from "./model/built_in.ts";
import type { AppOptions } from "./options.ts";

export type { App, AppOptions };

/** Makes the chat function. */
export function createApp(given: AppOptions): App {
  const chat = {
    model: builtInModel,
    modelName: BUILT_IN_NAME,
    pair: CHAT.pair,
    now: () => new Date(),
    background: (work: Promise<unknown>) => void work.catch(() => {}),
    log: (message: string, error?: unknown) => console.error(message, loggable(error)),
    compatibilityOff: false,
    ...given,
  };
  const { converter, compatibilityOff } = chat;
  return createCrossfadeFunction({
    ...chat,
    name: "chat",
    pairs: [{ pair: chat.pair }],
    routes: chatRoutes(chat),
    detectVersion,
    routeRequest,
    readContext: (request, url, body) => ({
      agent_id: agentOf(request, body),
      conversation_id: conversationOf(url, body),
    }),
    admit: (call) => checkCompatibility(call, compatibilityOff),
    convertEvent: (event, to) => convertEvent(converter, event, { from: 2, to }),
    about: { streams: "POST /reply with Accept: text/event-stream" },
  });
}

/** Refuses V1 clients once the owner has switched their format off. @throws {Problem} 410 */
function checkCompatibility({ view, negotiated, context }: Call, isOffUnread: boolean): void {
  if (negotiated.version !== 1) return;
  const unread = view.snapshot.origin !== "database";
  if (unread ? !isOffUnread : isKept(view, "enable_compatibility_mode", context)) return;
  throw new Problem("version-retired", {
    status: 410,
    detail: "API version 1 is no longer offered; ask for version 2",
    members: { requested: "1", source: negotiated.source, supported: ["2"] },
  });
}

function agentOf(request: Request, body: Body): string | undefined {
  const header = request.headers.get("x-agent-id");
  if (header !== null && header !== "") return header;
  const { agent_id: given, metadata } = body.value;
  const agent = given ?? (isObject(metadata) ? metadata.agent_id : undefined);
  return typeof agent === "string" ? agent : undefined;
}

function conversationOf(url: URL, body: Body): string | undefined {
  const id = body.value.chat_id ?? url.searchParams.get("chat_id");
  return isUuid(id) ? id.toLowerCase() : undefined;
}
