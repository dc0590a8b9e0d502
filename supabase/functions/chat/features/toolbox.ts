/**
 * The tools that a reply may call: a clock, a calculator, a search of one's own messages.
 *
 * None of them changes anything or reaches beyond the caller's rows.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import { isRow, type Row } from "../../_shared/crossfade/flags/snapshot.ts";
import type { FeatureStore } from "../store/feature_store.ts";
import type { ToolCall, ToolDescription } from "../model/model.ts";
import { calculate, CalculatorError } from "./calculator.ts";

const LONGEST_RUN_MS = 5_000;
const MOST_FOUND = 5;

/** What tools work with. */
export interface ToolContext {
  readonly features: FeatureStore;
  readonly backend: Version;
  readonly now: () => Date;
}

interface ChatTool extends ToolDescription {
  run(input: Row, context: ToolContext): unknown;
}

/** How a call went; `output` is JSON. */
export interface ToolOutcome {
  readonly call: ToolCall;
  readonly input: Row | null;
  readonly output: unknown;
  readonly isError: boolean;
}

const TOOLS: readonly ChatTool[] = [
  {
    name: "clock",
    description: "The time now, in UTC and in a time zone",
    input_schema: {
      type: "object",
      properties: { time_zone: { type: "string", description: "IANA name such as Europe/Warsaw" } },
    },
    run: ({ time_zone: zone }, { now }) => {
      const time = now();
      if (typeof zone !== "string") return { utc: time.toISOString() };
      const local = new Intl.DateTimeFormat("sv-SE", {
        timeZone: zone,
        dateStyle: "short",
        timeStyle: "medium",
      });
      return { utc: time.toISOString(), local: local.format(time), time_zone: zone };
    },
  },
  {
    name: "calculator",
    description: "The value of an arithmetic expression with + - * / and brackets",
    input_schema: {
      type: "object",
      properties: { expression: { type: "string" } },
      required: ["expression"],
    },
    run: ({ expression }) => ({ value: calculate(String(expression ?? "")) }),
  },
  {
    name: "search_messages",
    description: "The user's own newest messages that contain a text",
    input_schema: {
      type: "object",
      properties: { query: { type: "string" } },
      required: ["query"],
    },
    run: async ({ query }, { features, backend }) => {
      const text = String(query ?? "").trim();
      if (text === "") throw new ToolError("The query is empty");
      const found = await features.search(backend, text, MOST_FOUND);
      return {
        found: found.map(({ role, content }) => ({ role, content: content.slice(0, 300) })),
      };
    },
  },
];

/** A failure whose text the model may see. */
class ToolError extends Error {}

/** Describes the tools to the model. */
export const DESCRIPTIONS: readonly ToolDescription[] = TOOLS.map(
  ({ name, description, input_schema }) => ({ name, description, input_schema }),
);

/** Runs calls, all at once or one after the other; never throws: a failure is an outcome. */
export async function runTools(
  calls: readonly ToolCall[],
  context: ToolContext,
  { parallel }: { readonly parallel: boolean },
): Promise<ToolOutcome[]> {
  if (parallel) return await Promise.all(calls.map((call) => runTool(call, context)));
  const outcomes: ToolOutcome[] = [];
  for (const call of calls) outcomes.push(await runTool(call, context));
  return outcomes;
}

async function runTool(call: ToolCall, context: ToolContext): Promise<ToolOutcome> {
  const input = readArguments(call.arguments);
  const tool = TOOLS.find(({ name }) => name === call.name);
  const failed = (output: string): ToolOutcome => ({ call, input, output, isError: true });
  if (tool === undefined) return failed(`There is no tool "${call.name}"`);
  if (input === null) return failed("The arguments are not a JSON object");
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<never>((_, reject) => {
    const late = new ToolError(`The tool did not answer within ${LONGEST_RUN_MS} ms`);
    timer = setTimeout(() => reject(late), LONGEST_RUN_MS);
  });
  try {
    const work = (async () => await tool.run(input, context))();
    const output = await Promise.race([work, limit]);
    return { call, input, output, isError: false };
  } catch (error) {
    return failed(told(error));
  } finally {
    clearTimeout(timer);
  }
}

/** Only our own words and those about the input; texts of other errors stay inside. */
function told(error: unknown): string {
  if (error instanceof ToolError || error instanceof CalculatorError) return error.message;
  if (error instanceof RangeError) return "The arguments are out of range";
  return "The tool failed";
}

function readArguments(text: string): Row | null {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    return isRow(value) ? value : null;
  } catch {
    return null;
  }
}
