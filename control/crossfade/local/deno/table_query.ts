/** The simple part of PostgREST's query language: columns, one-column filters, order, range. */
import { quote, type Relation } from "./relations.ts";

/** The name a statement gives the relation: next to the body's columns its own need one. */
export const TARGET = "target";

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

const OPERATORS: Record<string, string> = {
  eq: "=",
  neq: "<>",
  gt: ">",
  gte: ">=",
  lt: "<",
  lte: "<=",
  like: "like",
  ilike: "ilike",
};
const IS_VALUES = new Set(["null", "true", "false", "unknown"]);
const PLAIN_LIST = /^\(([^"(){}\\]*)\)$/;

/**
 * Parse the parameters of a request.
 * @returns undefined when anything in them is beyond this file (embedding, JSON paths, casts,
 * aliases, or/and, full text, unknown columns): then the library answers.
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
  for (const [name, value] of search) {
    let understood = true;
    if (name === "select") understood = setColumns(query, relation, value);
    else if (name === "order") understood = setOrder(query, relation, value);
    else if (name === "limit" || name === "offset") understood = setNumber(query, name, value);
    else {
      const condition = parseFilter(relation, name, value, query.parameters);
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

function parseFilter(
  relation: Relation,
  name: string,
  value: string,
  parameters: unknown[],
): string | undefined {
  const type = relation.columns.get(name);
  const [, negation, operator = "", operand = ""] = /^(not\.)?([a-z]+)\.(.*)$/s.exec(value) ?? [];
  if (type === undefined) return undefined;
  const condition = buildCondition(columnOf(name), type, operator, operand, parameters);
  return condition && negation ? `not (${condition})` : condition;
}

function buildCondition(
  column: string,
  type: string,
  operator: string,
  operand: string,
  parameters: unknown[],
): string | undefined {
  // Through text, because the driver would otherwise convert the value by its own idea of the type.
  const bind = (value: string, to: string) => `$${parameters.push(value)}::text::${to}`;
  if (operator === "is") return IS_VALUES.has(operand) ? `${column} is ${operand}` : undefined;
  if (operator === "in") {
    const list = PLAIN_LIST.exec(operand)?.[1];
    if (list === undefined || type.endsWith("[]")) return undefined;
    const items = list === "" ? [] : list.split(",");
    const array = `{${items.map((item) => `"${item}"`).join(",")}}`;
    return `${column} = any (${bind(array, `${withoutPrecision(type)}[]`)})`;
  }
  const symbol = OPERATORS[operator];
  if (symbol === undefined) return undefined;
  if (symbol.endsWith("like")) {
    return `${column} ${symbol} ${bind(operand.replaceAll("*", "%"), "text")}`;
  }
  return `${column} ${symbol} ${bind(operand, withoutPrecision(type))}`;
}

function columnOf(name: string): string {
  return `${TARGET}.${quote(name)}`;
}

/** A cast to varchar(3) would cut the value that is compared. */
function withoutPrecision(type: string): string {
  return type.replace(/\(\d+(,\d+)?\)/, "");
}
