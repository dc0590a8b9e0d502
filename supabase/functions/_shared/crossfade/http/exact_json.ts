/**
 * JSON whose numbers are kept as they were written.
 *
 * A double holds 15 digits surely; bigint and numeric of PostgreSQL hold more. A number that a double
 * would change is kept as the text it was, and written again without quotes.
 *
 * @module
 */

/** A number as it was written; `JSON.stringify` writes it without quotes. */
export interface RawNumber {
  readonly rawJSON: string;
}

/** What the language has and its types do not say yet. */
const json = JSON as typeof JSON & {
  rawJSON(text: string): RawNumber;
  isRawJSON(value: unknown): value is RawNumber;
};

/** Only such a text can hold a number that a double would change. */
const LONG_NUMBER = /[0-9][0-9.]{15,}|[0-9][eE][+-]?[0-9]{3}/;

type Revive = (key: string, value: unknown, context?: { readonly source?: string }) => unknown;

/** Calls `replace` for each number that a double would change. */
function parse(text: string, replace: (source: string) => unknown): unknown {
  if (!LONG_NUMBER.test(text)) return JSON.parse(text);
  const revive: Revive = (_key, value, context) =>
    typeof value === "number" && context?.source !== undefined && !isExact(context.source, value)
      ? replace(context.source)
      : value;
  return JSON.parse(text, revive);
}

/** Parses JSON and keeps every number. */
export function parseExact(text: string): unknown {
  return parse(text, (source) => json.rawJSON(source));
}

/** Parses JSON. @throws what `refuse` makes of the first number that a double would change */
export function parseOnlyExact(text: string, refuse: (source: string) => Error): unknown {
  return parse(text, (source) => {
    throw refuse(source);
  });
}

function isExact(source: string, value: number): boolean {
  return Number.isFinite(value) && digitsOf(source) === digitsOf(String(value));
}

/** Sign, digits and the place of the point, without zeros that say nothing. */
function digitsOf(text: string): string {
  const [, sign = "", whole = "", part = "", exponent = "0"] =
    /^(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$/.exec(text) ?? [];
  const digits = `${whole}${part}`.replace(/^0+/, "");
  const short = digits.replace(/0+$/, "");
  if (short === "") return "0";
  const scale = Number(exponent) - part.length + digits.length - short.length;
  return `${sign}${short}e${scale}`;
}

/**
 * Moves the decimal point of a number, exactly: `shiftPoint(1299, -2)` is 12.99.
 *
 * Decimal text counts as a number. What is none, such as null, is returned as it is: the database
 * refuses it if it must.
 */
export function shiftPoint(value: unknown, places: number): unknown {
  const text = typeof value === "number" && Number.isFinite(value)
    ? String(value)
    : json.isRawJSON(value)
    ? value.rawJSON
    : typeof value === "string" && /^-?[0-9]+(\.[0-9]+)?$/.test(value)
    ? value
    : undefined;
  if (text === undefined) return value;
  const [mantissa = "", exponent = "0"] = text.toLowerCase().split("e");
  const moved = `${mantissa}e${Number(exponent) + places}`;
  const number = Number(moved);
  return isExact(moved, number) ? number : json.rawJSON(moved);
}
