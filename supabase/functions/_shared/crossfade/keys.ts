/**
 * Addresses and keys that Supabase gives a function in its environment.
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
