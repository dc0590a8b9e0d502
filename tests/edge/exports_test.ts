/** No export without an entry point: what no request and no call of an operator reaches is not kept. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";

const FUNCTIONS = new URL("../../supabase/functions/", import.meta.url);

/** Where the outside comes in. */
const ENTRIES = [
  "chat/index.ts",
  "orders/index.ts",
  "ofrep/index.ts",
  // A function that uses OpenFeature's SDK hands this to it; ours do not.
  "_shared/crossfade/openfeature/openfeature_provider.ts",
  // Loaded by a function only where its environment asks for it.
  "_shared/crossfade/serve/jwks.ts",
];

/** Files whose exports are names of the contract, compared with it by contract_test.ts. */
const CONTRACT = ["_shared/crossfade/contract.ts", "chat/adapters/feature_flags.ts"];

interface Module {
  readonly text: string;
  /** Values that it exports: types are gone when it runs. */
  readonly exported: readonly string[];
  /** Files it takes values or types of, with the names. */
  readonly imported: readonly { readonly from: string; readonly names: readonly string[] }[];
}

const namesIn = (list: string): string[] =>
  list.split(",").map((name) => name.trim().replace(/^type /, "").split(/\s+as\s+/)[0] ?? "")
    .filter((name) => name !== "");

function read(path: string): Module {
  const text = readFileSync(new URL(path, FUNCTIONS), "utf8");
  const declared = /^export (?:async )?(?:abstract )?(?:function\*?|class|const|let) (\w+)/gm;
  const passedOn = [...text.matchAll(/^export \{([^}]*)\}/gm)].flatMap(([, list = ""]) =>
    list.split(",").map((name) => name.trim()).filter((name) => !/^(type .*)?$/.test(name))
  );
  const statements =
    /^(?:import|export) (?:type )?(?:\{([^}]*)\}|\w+|\* as \w+) from\s+"(\.[^"]+)"/gm;
  return {
    text,
    exported: [...[...text.matchAll(declared)].map(([, name = ""]) => name), ...passedOn],
    imported: [...text.matchAll(statements)].map(([, list = "", from = ""]) => ({
      from: new URL(from, new URL(path, FUNCTIONS)).href.slice(FUNCTIONS.href.length),
      names: namesIn(list),
    })),
  };
}

/** Without comments and imports: a name that only these mention does nothing. */
function codeOf(text: string): string {
  return text.replaceAll(/\/\*[^]*?\*\/|^ *\/\/.*$|^import [^;]*;/gm, "");
}

const paths = readdirSync(FUNCTIONS, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => path.endsWith(".ts") && !path.includes("node_modules"));
const modules = new Map(paths.map((path) => [path, read(path)]));

function reached(): Set<string> {
  const seen = new Set<string>();
  const open = [...ENTRIES];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    for (const { from } of modules.get(path)?.imported ?? []) {
      if (modules.has(from)) open.push(from);
    }
  }
  return seen;
}

Deno.test("every file of the functions is reached from an entry point", () => {
  const seen = reached();
  assert.deepEqual(paths.filter((path) => !seen.has(path)), []);
});

Deno.test("every exported value is used where an entry point reaches it", () => {
  const used = new Map<string, Set<string>>();
  for (const path of reached()) {
    for (const { from, names } of modules.get(path)?.imported ?? []) {
      used.set(from, new Set([...used.get(from) ?? [], ...names]));
    }
  }
  const idle = [...modules].filter(([path]) => !ENTRIES.includes(path) && !CONTRACT.includes(path))
    .flatMap(([path, { exported, text }]) =>
      exported.filter((name) => {
        const mentions = codeOf(text).match(new RegExp(`\\b${name}\\b`, "g"))?.length ?? 0;
        return used.get(path)?.has(name) !== true && mentions < 2;
      }).map((name) => `${path}: ${name}`)
    );
  assert.deepEqual(idle, []);
});
