/**
 * Which handler answers which address.
 *
 * @module
 */

import { SUPPORTED_VERSIONS } from "../contract.ts";
import { Problem } from "../http/errors.ts";
import type { Route } from "./call.ts";
import { isUuid } from "./claims.ts";

/** A route that was found, with what its placeholders stand for. */
export interface Found {
  readonly route: Route;
  readonly parameters: Readonly<Record<string, string>>;
}

/** Finds routes. @throws {Problem} 404 for an unknown address, 405 for a method it does not have */
export type FindRoute = (method: string, resource: string) => Found;

/**
 * Prepares a table of routes; an address without a placeholder comes before those with one.
 *
 * HEAD is GET whose body is not sent (RFC 9110, 9.3.2).
 */
export function routeTable(routes: readonly Route[]): FindRoute {
  const byPath = Map.groupBy(routes, ({ path }) => path);
  // Most addresses have no placeholder, and every request asks.
  const plain = new Map([...byPath].filter(([path]) => !path.includes("{")));
  const resources = [...byPath].filter(([path]) => !plain.has(path))
    .map(([path, methods]) => ({ read: pattern(path), methods }));
  return (method, resource) => {
    const found = plain.get(resource);
    const { methods, parameters } = found === undefined
      ? findResource(resources, resource)
      : { methods: found, parameters: {} };
    const wanted = method === "HEAD" ? "GET" : method;
    const route = methods.find((one) => one.method === wanted);
    if (route !== undefined) return { route, parameters };
    const names = methods.map((one) => one.method);
    const all = names.includes("GET")
      ? ["GET", "HEAD", ...names.filter((n) => n !== "GET")]
      : names;
    const headers = { Allow: [...all, "OPTIONS"].join(", ") };
    const detail = `"${resource}" does not have the method ${method}`;
    throw new Problem("method-not-allowed", { status: 405, detail, headers });
  };
}

interface Resource {
  readonly read: Read;
  readonly methods: readonly Route[];
}

function findResource(resources: readonly Resource[], path: string) {
  const segments = path.split("/");
  for (const { read, methods } of resources) {
    const parameters = read(segments);
    if (parameters !== undefined) return { methods, parameters };
  }
  throw new Problem("not-found", { status: 404, detail: `There is nothing at "${path}"` });
}

type Read = (given: readonly string[]) => Readonly<Record<string, string>> | undefined;

function pattern(path: string): Read {
  const segments = path.split("/").map((segment) => {
    const [, name, kind] = /^\{(\w+)(?::(uuid))?\}$/.exec(segment) ?? [];
    return { segment, name, isUuid: kind === "uuid" };
  });
  return (given) => {
    if (given.length !== segments.length) return undefined;
    const parameters: Record<string, string> = {};
    for (const [place, { segment, name, isUuid: wantsUuid }] of segments.entries()) {
      const text = given[place] ?? "";
      if (name === undefined) {
        if (text !== segment) return undefined;
        continue;
      }
      const value = wantsUuid ? text.toLowerCase() : decode(text);
      if (value === undefined || value === "" || (wantsUuid && !isUuid(value))) return undefined;
      parameters[name] = value;
    }
    return parameters;
  };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What `OPTIONS` without a preflight tells. */
export function discovery(
  name: string,
  routes: readonly Route[],
): Readonly<Record<string, unknown>> {
  const open = routes.filter((route) => route.operators !== true);
  return {
    name,
    supported_versions: SUPPORTED_VERSIONS.map(String),
    default_version: "1",
    version_sources: {
      header: "X-API-Version: 2",
      accept: "application/json;version=2 or application/vnd.crossfade.v2+json",
      url: `/${name}/v2/...`,
    },
    resources: [...new Set(open.map(({ path }) => path.replaceAll(/:\w+\}/g, "}")))],
  };
}
