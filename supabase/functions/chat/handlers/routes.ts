/**
 * Which handler answers which address.
 *
 * @module
 */

import type { Answer, Call, Route } from "../../_shared/crossfade/serve/call.ts";
import type { AppOptions } from "../options.ts";
import type { Model } from "../model/model.ts";
import { createChat } from "./chats.ts";
import { editMessage } from "./edits.ts";
import { forgetFact, listFacts, readState } from "./kept.ts";
import { createMessage, deleteMessage, getMessage, listMessages } from "./messages.ts";
import { joinContext, readContext } from "./context.ts";
import { migrate, readHealth, readMigration, rollBack, undoRollback } from "./operators.ts";
import { reply } from "./reply.ts";
import type { Tools } from "./tools.ts";

/** What is the same for every request. */
type Chat =
  & Omit<Tools, "store" | "features" | "noteVersion">
  & Pick<AppOptions, "openStore" | "openFeatures" | "flags">
  & { readonly model: Model };

/** Handles a request about one row, or about none. */
type Handle = (call: Call, tools: Tools, id: string) => Promise<Answer>;

/** Returns the routes of the chat function. */
export function chatRoutes(chat: Chat): Route[] {
  const { openStore, openFeatures, flags, model, ...rest } = chat;
  const noteVersion = (version: unknown): void => flags.noteVersion(version);
  const route = (method: Route["method"], path: string, handle: Handle): Route => ({
    method,
    path,
    handle: (call) => {
      const { caller } = call;
      const store = openStore(caller);
      const tools = { ...rest, noteVersion, store, features: openFeatures(caller) };
      return handle(call, tools, call.parameters.id ?? "");
    },
  });
  return [
    route("POST", "/chats", createChat),
    route("GET", "/chats/{id:uuid}/state", readState),
    route("GET", "/chats/{id:uuid}/context", readContext),
    route("POST", "/chats/{id:uuid}/context", joinContext),
    route("GET", "/messages", listMessages),
    route("POST", "/messages", createMessage),
    route("GET", "/messages/{id:uuid}", getMessage),
    route("PATCH", "/messages/{id:uuid}", editMessage),
    route("DELETE", "/messages/{id:uuid}", deleteMessage),
    route("POST", "/reply", (call, tools) => reply(call, tools, model)),
    route("GET", "/memories", listFacts),
    route("DELETE", "/memories/{id:uuid}", forgetFact),
    { ...route("GET", "/health", readHealth), operators: true },
    { ...route("POST", "/rollback", rollBack), operators: true },
    { ...route("POST", "/rollback/undo", undoRollback), operators: true },
    { ...route("GET", "/migration", readMigration), operators: true },
    { ...route("POST", "/migration", migrate), operators: true },
  ];
}
