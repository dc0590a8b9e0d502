/**
 * The tools that a reply may call: a clock, a calculator, a search of one's own messages.
 *
 * None of them changes anything or reaches beyond the caller's rows.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { JsonObject } from "../adapters/changes/json.ts";
import { ToolCompatibilityWrapper } from "../adapters/compatibility_layer.ts";
import type { LegacyTool, Tool } from "../adapters/compat/tool_compatibility.ts";
import type { ToolDefinition } from "../formats/format.ts";
import type { FeatureStore } from "../store/feature_store.ts";
import { calculate, CalculatorError } from "./calculator.ts";

const LONGEST_RUN_MS = 5_000;
const MOST_FOUND = 5;

/** What tools work with. */
export interface ToolContext {
  readonly features: FeatureStore;
  readonly backend: Version;
  readonly now: () => Date;
}

/** A call and its result, both blocks. */
export interface ToolOutcome {
  readonly call: JsonObject;
  readonly result: JsonObject;
}

function toolsFor({ features, backend, now }: ToolContext): (Tool | LegacyTool)[] {
  return [
    {
      name: "clock",
      description: "The time now, in UTC and in a time zone",
      input_schema: {
        type: "object",
        properties: {
          time_zone: { type: "string", description: "IANA name such as Europe/Warsaw" },
        },
      },
      run: ({ time_zone }) => safely(() => timeIn(time_zone, now())),
    },
    // As the first API had it: a description of each parameter, and an answer that is text.
    {
      name: "calculator",
      description: "The value of an arithmetic expression with + - * / and brackets",
      parameters: { expression: { type: "string", required: true } },
      execute: ({ expression }) =>
        safely(() => JSON.stringify({ value: calculate(String(expression ?? "")) })),
    },
    {
      name: "search_messages",
      description: "The user's own newest messages that contain a text",
      input_schema: {
        type: "object",
        properties: { query: { type: "string" } },
        required: ["query"],
      },
      run: ({ query }) =>
        safely(async () => {
          const text = String(query ?? "").trim();
          if (text === "") throw new ToolError("The query is empty");
          const found = await features.search(backend, text, MOST_FOUND);
          return {
            found: found.map(({ role, content }) => ({ role, content: content.slice(0, 300) })),
          };
        }),
    },
  ];
}

function timeIn(zone: unknown, time: Date): JsonObject {
  if (typeof zone !== "string") return { utc: time.toISOString() };
  const local = new Intl.DateTimeFormat("sv-SE", {
    timeZone: zone,
    dateStyle: "short",
    timeStyle: "medium",
  });
  return { utc: time.toISOString(), local: local.format(time), time_zone: zone };
}

/** A failure whose text the model may see. */
class ToolError extends Error {}

/** Describes the tools to the model. */
export function describeTools(context: ToolContext): readonly ToolDefinition[] {
  return new ToolCompatibilityWrapper(toolsFor(context)).definitions();
}

/** Runs calls, all at once or one after the other; never throws: a failure is an outcome. */
export async function runTools(
  calls: readonly JsonObject[],
  context: ToolContext,
  { parallel }: { readonly parallel: boolean },
): Promise<ToolOutcome[]> {
  const tools = new ToolCompatibilityWrapper(toolsFor(context));
  const run = async (call: JsonObject) => ({ call, result: await tools.run(call) });
  if (parallel) return await Promise.all(calls.map(run));
  const outcomes: ToolOutcome[] = [];
  for (const call of calls) outcomes.push(await run(call));
  return outcomes;
}

/** Runs a tool within a time limit; what it throws says only what the model may see. */
async function safely<T>(run: () => T | Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<never>((_, reject) => {
    const late = new ToolError(`The tool did not answer within ${LONGEST_RUN_MS} ms`);
    timer = setTimeout(() => reject(late), LONGEST_RUN_MS);
  });
  try {
    return await Promise.race([(async () => await run())(), limit]);
  } catch (error) {
    throw new ToolError(told(error), { cause: error });
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
