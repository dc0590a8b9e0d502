/**
 * Keeps what only V2 can hold when a V2 client is served from backend 1.
 *
 * V1 shows a row's plain columns, but not, say, a shipping address. Stored through V1 such parts
 * would be gone without a word. While the mirror runs, either table may be written and the other one
 * follows, so a row that V1 cannot hold whole is written to V2.
 *
 * @module
 */

import { fenced } from "../flags/choose_backend.ts";
import type { Call, Message } from "./call.ts";
import { canonical } from "./canonical.ts";
import { convert, type Converter } from "./convert.ts";

const MIRRORED = new Set(["dualwrite", "shadow", "live", "rampdown"]);

/** Returns whether a V2 write for this request may go to V2 although backend 1 serves it. */
export function mayWriteV2({ view, pair }: Call): boolean {
  const { snapshot, stale } = view;
  const stage = snapshot.pairs.get(pair)?.stage ?? "off";
  // A kill switch, or not knowing of one, keeps everything away from V2.
  return snapshot.origin === "database" && MIRRORED.has(stage) && !stale && !fenced(snapshot, pair);
}

/** Returns the fields of a V2 row that its V1 form does not show. */
export function lostInV1(
  converter: Converter,
  row: Message,
  { shown, fields }: { readonly shown: Message; readonly fields: readonly string[] },
): string[] {
  const back = convert(converter, shown, { from: 1, to: 2 });
  return fields.filter((name) => canonical(back[name] ?? null) !== canonical(row[name] ?? null));
}
