/**
 * What a format is, and putting a value of one into the form that is stored.
 *
 * Every format is converted from and to one form only, as the message adapter does it: what a
 * format cannot show is taken from the stored counterpart, and what is unchanged stays the same to
 * the byte.
 *
 * @module
 */

import { copy, equal, isObject, type JsonObject, own, without } from "../adapters/changes/json.ts";
import type { ToolNames } from "./names.ts";

/**
 * A tool of the new form, close to MCP: `name`, `title?`, `description?`, `input_schema`,
 * `output_schema?`, `strict?`, `annotations?`, `version?`, `extras?`.
 */
export interface ToolDefinition extends JsonObject {
  readonly name: string;
  readonly input_schema: JsonObject;
}

/** One kind of value in one format. */
export interface Part {
  /** Keys of the stored form that this format shows; the others survive from the counterpart. */
  readonly shows: readonly string[];
  /** Returns the stored form. Never throws. */
  readonly read: (raw: JsonObject) => JsonObject;
  readonly write: (stored: JsonObject) => JsonObject;
  /** Keys that say nothing where they have this value: they need no exact form beside. */
  readonly silent?: JsonObject;
}

/** A format: how it writes tools, calls of them and results. */
export interface ToolFormat {
  readonly id: "legacy" | "new" | "openai_chat" | "openai_responses" | "anthropic";
  /** Whether its names are limited, so that others travel under an alias. */
  readonly limitsNames: boolean;
  readonly tool: Part;
  readonly call: Part;
  readonly result: Part;
  /** All else that a message is made of: text, reasoning, refusals, images, a provider's own. */
  readonly block?: Part;
}

export interface PutOptions {
  /** Absent, or of no use to a format without limits on names. */
  readonly names?: ToolNames | undefined;
  /** The value as it is stored. */
  readonly base?: JsonObject | undefined;
}

export type Kind = "tool" | "call" | "result" | "block";

/** Returns the stored form of a value of a format. */
export function put(
  format: ToolFormat,
  kind: Kind,
  raw: unknown,
  { names, base }: PutOptions = {},
): JsonObject {
  const shown = base && show(format, kind, base, names);
  if (base !== undefined && isSameText(shown, raw)) return copy(base);
  const plain = readPlain(format, kind, isObject(raw) ? raw : {}, names);
  const before = shown && readPlain(format, kind, shown, names);
  const stored = base === undefined || before === undefined
    ? plain
    : putEdit(base, { before, plain, shows: partOf(format, kind).shows });
  // The new form is the stored one: its order of keys means nothing.
  const written = writePlain(format, kind, stored, names);
  // jsonb keeps no order of keys; only tools, calls and results are compared as text by anybody.
  const isExact = format.id === "new" ||
    (kind === "block"
      ? equal(written, withoutSilent(partOf(format, kind), raw))
      : isSameText(written, raw));
  if (isExact) return copy(stored);
  // Written plainly it would not be what was given: the exact form is kept beside.
  const extras = { ...toObject(stored.extras), raw: { format: format.id, value: raw } };
  return copy({ ...stored, extras });
}

interface Edit {
  readonly before: JsonObject;
  readonly plain: JsonObject;
  readonly shows: readonly string[];
}

/** Changes in the stored value what differs from what was shown of it, and nothing else. */
function putEdit(base: JsonObject, { before, plain, shows }: Edit): JsonObject {
  const changed = shows.filter((key) => !equal(plain[key], before[key]));
  const stored = without(base, changed);
  for (const key of changed) if (plain[key] !== undefined) stored[key] = plain[key];
  if (shows.includes("extras")) return stored;
  const extras = { ...without(toObject(base.extras), ["raw"]), ...toObject(plain.extras) };
  return Object.keys(extras).length === 0 ? without(stored, ["extras"]) : { ...stored, extras };
}

/** Returns a stored value in a format, exactly as it was given if it came in that format. */
export function show(
  format: ToolFormat,
  kind: Kind,
  stored: JsonObject,
  names?: ToolNames,
): JsonObject {
  const kept = own(stored.extras, "raw");
  const raw = own(kept, "value");
  if (own(kept, "format") === format.id && isObject(raw)) {
    const plain = readPlain(format, kind, raw, names);
    // An alias depends on the other tools, so the name is looked at as well.
    const isSame = partOf(format, kind).shows.every((key) => equal(plain[key], stored[key])) &&
      wireName(format, stored.name, names) === wireName(format, plain.name, names);
    if (isSame) return copy(raw);
  }
  return copy(writePlain(format, kind, stored, names));
}

function partOf(format: ToolFormat, kind: Kind): Part {
  const part = format[kind];
  if (part === undefined) throw new TypeError(`Format "${format.id}" has no words for messages`);
  return part;
}

function withoutSilent({ silent }: Part, raw: unknown): unknown {
  if (silent === undefined || !isObject(raw)) return raw;
  const isSilent = (key: string) => Object.hasOwn(silent, key) && equal(raw[key], silent[key]);
  return without(raw, Object.keys(raw).filter(isSilent));
}

function readPlain(
  format: ToolFormat,
  kind: Kind,
  raw: JsonObject,
  names: ToolNames | undefined,
): JsonObject {
  const plain = partOf(format, kind).read(raw);
  const { name } = plain;
  if (!format.limitsNames || names === undefined || typeof name !== "string") return plain;
  return { ...plain, name: names.fromWire(name) };
}

function writePlain(
  format: ToolFormat,
  kind: Kind,
  stored: JsonObject,
  names: ToolNames | undefined,
): JsonObject {
  const name = wireName(format, stored.name, names);
  return partOf(format, kind).write(name === stored.name ? stored : { ...stored, name });
}

function wireName(format: ToolFormat, name: unknown, names: ToolNames | undefined): unknown {
  if (!format.limitsNames || names === undefined || typeof name !== "string") return name;
  return names.toWire(name);
}

export function toObject(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

function isSameText(first: unknown, second: unknown): boolean {
  return JSON.stringify(first) === JSON.stringify(second);
}
