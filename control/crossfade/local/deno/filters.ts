/** PostgREST's filters as SQL conditions: `col=op.value`, and trees of them in `or` and `and`. */
import { quote, type Relation } from "./relations.ts";

/** The name a statement gives the relation: next to the body's columns its own need one. */
export const TARGET = "target";

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
const TREE = /(not\.)?(and|or)\(/y;
const CONDITION = /([^.,()"]+)\.(not\.)?([a-z]+)\./y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/y;
const PLAIN = /[^,()"]*/y;

/** Parses the filters of one request; values become parameters of the statement. */
export class FilterParser {
  #text = "";
  #at = 0;

  constructor(readonly relation: Relation, readonly parameters: unknown[]) {}

  /** The condition of one parameter of the URL; undefined when it is beyond this file. */
  parse(name: string, value: string): string | undefined {
    const [, negation, junction] = /^(not\.)?(and|or)$/.exec(name) ?? [];
    if (junction !== undefined) return this.#whole(`${negation ?? ""}${junction}${value}`);
    const [, not, operator = "", operand = ""] = /^(not\.)?([a-z]+)\.(.*)$/s.exec(value) ?? [];
    // Outside a tree only a list has quotes; anything else is the value as it stands.
    if (operator === "in") return this.#whole(`${name}.${value}`);
    return negate(not, this.#condition(name, operator, operand));
  }

  #whole(text: string): string | undefined {
    this.#text = text;
    this.#at = 0;
    const condition = this.#term();
    return this.#at === text.length ? condition : undefined;
  }

  #term(): string | undefined {
    const tree = this.#match(TREE);
    if (tree) return negate(tree[1], this.#tree(tree[2] ?? ""));
    const [, name = "", not, operator = ""] = this.#match(CONDITION) ?? [];
    const operand = operator === "in" ? this.#list() : this.#value();
    return operand === undefined
      ? undefined
      : negate(not, this.#condition(name, operator, operand));
  }

  #tree(junction: string): string | undefined {
    const conditions: string[] = [];
    do {
      const condition = this.#term();
      if (condition === undefined) return undefined;
      conditions.push(condition);
    } while (this.#take(","));
    return this.#take(")") ? `(${conditions.join(` ${junction} `)})` : undefined;
  }

  #value(): string | undefined {
    const quoted = this.#match(QUOTED);
    if (quoted) return (quoted[1] ?? "").replaceAll(/\\(.)/gs, "$1");
    return this.#match(PLAIN)?.[0];
  }

  /** The items of `(a,"b,c")` as the text of an array. */
  #list(): string | undefined {
    if (!this.#take("(")) return undefined;
    if (this.#take(")")) return "{}";
    const items: string[] = [];
    do {
      const item = this.#value();
      if (item === undefined) return undefined;
      items.push(`"${item.replaceAll(/["\\]/g, "\\$&")}"`);
    } while (this.#take(","));
    return this.#take(")") ? `{${items.join(",")}}` : undefined;
  }

  #condition(name: string, operator: string, operand: string): string | undefined {
    // Without precision: a cast to varchar(3) would cut the value that is compared.
    const type = this.relation.columns.get(name)?.replace(/\(\d+(,\d+)?\)/, "");
    if (type === undefined) return undefined;
    const column = columnOf(name);
    if (operator === "is") return IS_VALUES.has(operand) ? `${column} is ${operand}` : undefined;
    if (operator === "in") {
      return type.endsWith("[]")
        ? undefined
        : `${column} = any (${this.#bind(operand, `${type}[]`)})`;
    }
    const symbol = OPERATORS[operator];
    if (symbol === undefined) return undefined;
    if (symbol.endsWith("like")) {
      return `${column} ${symbol} ${this.#bind(operand.replaceAll("*", "%"), "text")}`;
    }
    return `${column} ${symbol} ${this.#bind(operand, type)}`;
  }

  /** Through text, because the driver would convert the value by its own idea of the type. */
  #bind(value: string, type: string): string {
    return `$${this.parameters.push(value)}::text::${type}`;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match) this.#at = pattern.lastIndex;
    return match;
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }
}

/** A column of the relation. */
export function columnOf(name: string): string {
  return `${TARGET}.${quote(name)}`;
}

function negate(not: string | undefined, condition: string | undefined): string | undefined {
  return condition !== undefined && not ? `not (${condition})` : condition;
}
