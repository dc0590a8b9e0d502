/**
 * Keeps what only V2 can hold when a V2 client is served from backend 1.
 *
 * V1 shows a message's text and metadata, but not, say, the signature of a reasoning block. Stored
 * through V1 such parts would be gone without a word. While the mirror runs, either table may be
 * written and the other one follows, so a message that V1 cannot hold whole is written to V2.
 *
 * @module
 */

import { fenced } from "../../_shared/crossfade/flags/choose_backend.ts";
import { isKept } from "../adapters/feature_flags.ts";
import type { Converter } from "../adapters/api_version_router.ts";
import { canonical } from "../../_shared/crossfade/serve/canonical.ts";
import type { Call, Message } from "../types.ts";

const MIRRORED = new Set(["dualwrite", "shadow", "live", "rampdown"]);

/** Returns whether a V2 write for this request may go to V2 although backend 1 serves it. */
export function mayWriteV2(call: Call, pair: string): boolean {
  const { snapshot, stale } = call.view;
  if (!isKept(call.view, "maintain_dual_write", call.context)) return false;
  const stage = snapshot.pairs.get(pair)?.stage ?? "off";
  // A kill switch, or not knowing of one, keeps everything away from V2.
  return MIRRORED.has(stage) && !stale && !fenced(snapshot, pair);
}

/** Returns whether the V1 form of a V2 message shows all the given fields. */
export function isHeldByV1(
  converter: Converter,
  message: Message,
  { shown, fields }: { readonly shown: Message; readonly fields: readonly string[] },
): boolean {
  const back = converter.toV2(shown);
  return fields.every((name) => canonical(back[name] ?? null) === canonical(message[name] ?? null));
}
