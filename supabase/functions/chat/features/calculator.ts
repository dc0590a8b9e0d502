/**
 * Arithmetic from text, without eval: + - * / and brackets.
 *
 * @module
 */

const LONGEST = 200;

/** Refused input; the text goes to the model. */
export class CalculatorError extends Error {}

/**
 * Calculates an expression such as `2 * (3 + 4.5)`.
 *
 * @throws {CalculatorError} for anything that is no arithmetic, too long, or has no finite result
 */
export function calculate(expression: string): number {
  if (expression.length > LONGEST) {
    throw new CalculatorError(`The expression is longer than ${LONGEST} characters`);
  }
  const tokens = expression.match(/\d+(?:\.\d+)?|\.\d+|[-+*/()]|\S/g) ?? [];
  const reader = new Reader(tokens);
  const value = reader.sum();
  if (!reader.atEnd) throw new CalculatorError(`"${reader.next}" is not expected there`);
  if (!Number.isFinite(value)) throw new CalculatorError("The result is not a finite number");
  return value;
}

class Reader {
  readonly #tokens: readonly string[];
  #place = 0;

  constructor(tokens: readonly string[]) {
    this.#tokens = tokens;
  }

  get next(): string | undefined {
    return this.#tokens[this.#place];
  }

  get atEnd(): boolean {
    return this.#place >= this.#tokens.length;
  }

  sum(): number {
    let value = this.#product();
    while (this.next === "+" || this.next === "-") {
      const sign = this.#take() === "+" ? 1 : -1;
      value += sign * this.#product();
    }
    return value;
  }

  #product(): number {
    let value = this.#factor();
    while (this.next === "*" || this.next === "/") {
      if (this.#take() === "*") value *= this.#factor();
      else value /= this.#factor();
    }
    return value;
  }

  // Recursion is bounded by the length of the expression.
  #factor(): number {
    const token = this.#take();
    if (token === "-") return -this.#factor();
    if (token === "(") {
      const value = this.sum();
      if (this.#take() !== ")") throw new CalculatorError("A bracket is not closed");
      return value;
    }
    const value = /^[\d.]/.test(token ?? "") ? Number(token) : NaN;
    if (Number.isNaN(value)) {
      throw new CalculatorError(
        token === undefined ? "A number is missing" : `"${token}" is not a number`,
      );
    }
    return value;
  }

  #take(): string | undefined {
    return this.#tokens[this.#place++];
  }
}
