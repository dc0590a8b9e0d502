/**
 * What every function reads of its environment: addresses, keys, ages of the flags.
 *
 * @module
 */

type Environment = Readonly<Record<string, string>>;

/**
 * Returns a variable.
 *
 * @throws {Error} naming the variable if it is missing or empty
 */
export function required(environment: Environment, name: string): string {
  const value = environment[name];
  if (value) return value;
  throw new Error(`Cannot start: environment variable ${name} is missing`);
}

/**
 * Reads the key named `default` of a JSON object of keys, else the older variable.
 *
 * @throws {Error} naming both if neither holds a key
 */
export function readKey(environment: Environment, keys: string, legacy: string): string {
  const text = environment[keys];
  if (text) {
    const all: unknown = JSON.parse(text);
    if (typeof all === "object" && all !== null && "default" in all) return String(all.default);
  }
  const value = environment[legacy];
  if (value) return value;
  throw new Error(`Cannot start: environment variables ${keys} and ${legacy} are missing`);
}

/** Reads CROSSFADE_SOFT_AGE_MS and CROSSFADE_HARD_AGE_MS; what is no number counts as not set. */
export function readAges(
  environment: Environment,
): { readonly softAgeMs?: number; readonly hardAgeMs?: number } {
  const read = (name: string): number | undefined => {
    const text = environment[name] ?? "";
    const value = Number(text);
    return text.trim() !== "" && value >= 0 ? value : undefined;
  };
  const softAgeMs = read("CROSSFADE_SOFT_AGE_MS");
  const hardAgeMs = read("CROSSFADE_HARD_AGE_MS");
  return {
    ...(softAgeMs === undefined ? {} : { softAgeMs }),
    ...(hardAgeMs === undefined ? {} : { hardAgeMs }),
  };
}
