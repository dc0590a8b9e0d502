/**
 * Names and ids that a model's provider refuses, and the ones that stand for them.
 *
 * @module
 */

const LONGEST = 64;

/** Translates names there and back. The same names in the same order give the same aliases. */
export class ToolNames {
  readonly #toWire = new Map<string, string>();
  readonly #fromWire = new Map<string, string>();
  readonly #longest: number;

  /** @param names of the tools, and of calls in the history of tools that are gone */
  constructor(names: Iterable<string>, longest = LONGEST) {
    this.#longest = longest;
    const all = new Set(names);
    // Allowed names first: none of them may lose its own to an alias.
    for (const name of all) if (this.#isAllowed(name)) this.#set(name, name);
    for (const name of all) if (!this.#isAllowed(name)) this.#set(name, this.#aliasOf(name));
  }

  /** Returns the name for the provider. */
  toWire(name: string): string {
    return this.#toWire.get(name) ?? this.#aliasOf(name);
  }

  /** Returns the tool's own name; one that a model made up is returned as it is. */
  fromWire(alias: string): string {
    return this.#fromWire.get(alias) ?? alias;
  }

  #isAllowed(name: string): boolean {
    return name.length <= this.#longest && /^[a-zA-Z0-9_-]+$/.test(name);
  }

  #set(name: string, alias: string): void {
    this.#toWire.set(name, alias);
    this.#fromWire.set(alias, name);
  }

  #aliasOf(name: string): string {
    if (this.#isAllowed(name) && !this.#fromWire.has(name)) return name;
    const plain = name.replaceAll(".", "__").replaceAll(/[^a-zA-Z0-9_-]/g, "_") || "tool";
    let alias = plain.slice(0, this.#longest);
    for (let number = 2; this.#fromWire.has(alias); number++) {
      const suffix = `_${number}`;
      alias = plain.slice(0, this.#longest - suffix.length) + suffix;
    }
    return alias;
  }
}
