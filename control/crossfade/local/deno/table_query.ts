/** The simple part of PostgREST's query language: columns, filters, order, range. */
import { columnOf, FilterParser, TARGET } from "./filters.ts";
import type { Relation } from "./relations.ts";

/** A parsed query; values are parameters of the statement. */
export interface TableQuery {
  /** The select list. */
  columns: string;
  /** `where …`, or nothing. */
  where: string;
  orderBy: string;
  limit: number | undefined;
  offset: number;
  parameters: unknown[];
}

/**
 * Parse the parameters of a request.
 * @returns undefined when anything in them is beyond this file (embedding, JSON paths, casts,
 * aliases, full text, unknown columns): then the library answers.
 */
export function parseQuery(
  relation: Relation,
  search: URLSearchParams,
  firstParameters: unknown[],
): TableQuery | undefined {
  const query: TableQuery = {
    columns: `${TARGET}.*`,
    where: "",
    orderBy: "",
    limit: undefined,
    offset: 0,
    parameters: [...firstParameters],
  };
  const conditions: string[] = [];
  const filters = new FilterParser(relation, query.parameters);
  for (const [name, value] of search) {
    let understood = true;
    if (name === "select") understood = setColumns(query, relation, value);
    else if (name === "order") understood = setOrder(query, relation, value);
    else if (name === "limit" || name === "offset") understood = setNumber(query, name, value);
    else {
      const condition = filters.parse(name, value);
      if (condition !== undefined) conditions.push(condition);
      understood = condition !== undefined;
    }
    if (!understood) return undefined;
  }
  if (conditions.length > 0) query.where = `where ${conditions.join(" and ")}`;
  return query;
}

function setColumns(query: TableQuery, relation: Relation, value: string): boolean {
  if (value === "*") return true;
  const names = value.split(",").map((name) => name.trim());
  if (!names.every((name) => relation.columns.has(name))) return false;
  query.columns = names.map(columnOf).join(", ");
  return new Set(names).size === names.length;
}

function setOrder(query: TableQuery, relation: Relation, value: string): boolean {
  const terms: string[] = [];
  for (const term of value.split(",")) {
    const [name = "", ...words] = term.split(".");
    const suffix = ORDERS[words.join(".")];
    if (suffix === undefined || !relation.columns.has(name)) return false;
    terms.push(columnOf(name) + suffix);
  }
  query.orderBy = `order by ${terms.join(", ")}`;
  return true;
}

const ORDERS: Record<string, string> = {
  "": "",
  asc: " asc",
  desc: " desc",
  nullsfirst: " nulls first",
  nullslast: " nulls last",
  "asc.nullsfirst": " asc nulls first",
  "asc.nullslast": " asc nulls last",
  "desc.nullsfirst": " desc nulls first",
  "desc.nullslast": " desc nulls last",
};

function setNumber(query: TableQuery, name: "limit" | "offset", value: string): boolean {
  if (!/^\d{1,15}$/.test(value)) return false;
  query[name] = Number(value);
  return true;
}
