/**
 * Lists, media ranges and quoted strings as RFC 9110 writes them (5.6 and 12.5.1).
 *
 * @module
 */

/** One element of a list: a value and its parameters, names in lower case. */
export interface Element {
  readonly value: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const QUOTED = '"(?:[^"\\\\]|\\\\[\\s\\S])*"';
// Spaces around the equals sign are no grammar, but clients send them.
const PARAMETER = new RegExp(
  `[ \\t]*;[ \\t]*(?:(${TOKEN})[ \\t]*=[ \\t]*(${TOKEN}|${QUOTED}))?`,
  "y",
);
const VALUE = new RegExp(`[ \\t]*(${TOKEN}(?:/${TOKEN})?|${QUOTED})`, "y");
/** The rest of an element, up to a comma that stands in no quoted string. */
const REST = new RegExp(`(?:${QUOTED}|"[^]*$|[^",])*`, "y");

/**
 * Reads a list; an element that is none by the grammar is `undefined`, an empty one is left out.
 *
 * A quoted string that never ends takes the rest of the header with it.
 */
export function readList(header: string): (Element | undefined)[] {
  const elements: (Element | undefined)[] = [];
  for (let at = 0; at <= header.length;) {
    const end = matchAt(REST, header, at);
    const text = header.slice(at, end);
    if (text.trim() !== "") elements.push(readElement(text));
    at = end + 1;
  }
  return elements;
}

function matchAt(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  pattern.test(text);
  return pattern.lastIndex;
}

/** Reads one value with its parameters; `undefined` for what the grammar does not allow. */
export function readElement(text: string): Element | undefined {
  VALUE.lastIndex = 0;
  const value = VALUE.exec(text)?.[1];
  if (value === undefined) return undefined;
  const parameters = new Map<string, string>();
  let at = VALUE.lastIndex;
  for (;;) {
    PARAMETER.lastIndex = at;
    const found = PARAMETER.exec(text);
    if (found === null) break;
    at = PARAMETER.lastIndex;
    const [, name, raw = ""] = found;
    const key = name?.toLowerCase();
    // Of a parameter that is said twice the first counts.
    if (key !== undefined && !parameters.has(key)) parameters.set(key, unquote(raw));
  }
  if (text.slice(at).trim() !== "") return undefined;
  return { value: unquote(value), parameters };
}

function unquote(text: string): string {
  return text.startsWith('"') ? text.slice(1, -1).replace(/\\([\s\S])/g, "$1") : text;
}

/** Reads a weight; one that is no weight counts as absent, which is 1. */
export function readWeight(text: string | undefined): number {
  return text !== undefined && /^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$/.test(text) ? Number(text) : 1;
}
