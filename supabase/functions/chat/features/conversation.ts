/**
 * One turn of the assistant: what the model gets to see, its rounds of tools, its last word.
 *
 * Memory, state, cache and summary are helpful and not needed: when their tables do not answer, the
 * reply goes on without them and the failure is logged.
 *
 * @module
 */

import type { Version } from "../../_shared/crossfade/contract.ts";
import type { ReplyFeatures } from "../adapters/feature_flags.ts";
import type { Tools } from "../handlers/tools.ts";
import { argumentsOf } from "../adapters/changes/items.ts";
import { isToRun, type ModelAnswer, stopped } from "../formats/answer.ts";
import { type Model, type ModelRequest, type Turn, wordsOf } from "../model/model.ts";
import type { StreamEvent } from "../../_shared/crossfade/http/sse.ts";
import type { Call, Message } from "../types.ts";
import { cacheKey, fromRow, toRow } from "./cache.ts";
import { compress } from "./compression.ts";
import { factIn, MOST_FACTS, tellFacts } from "./memory.ts";
import { describeTools, runTools, type ToolOutcome } from "./toolbox.ts";

const MOST_ROUNDS = 4;
/** Longest time for all rounds together; the platform gives up at 150 s. */
const LONGEST_TURN_MS = 120_000;

export interface TurnOptions {
  readonly id: string;
  readonly chatId: string;
  readonly turns: readonly Turn[];
  readonly features: ReplyFeatures;
  readonly model: Model;
  readonly backend: Version;
  readonly emit: (event: StreamEvent) => void;
  /** Says that the client has gone; what was said until then is kept. Absent when not streaming. */
  readonly signal?: AbortSignal;
}

/** One round in which the model called tools. */
export interface Step {
  readonly answer: ModelAnswer;
  readonly outcomes: readonly ToolOutcome[];
}

export interface Conversation {
  readonly steps: readonly Step[];
  readonly final: ModelAnswer;
  /** What the features did, for the metadata of the reply. */
  readonly notes: Message;
  readonly cancelled: boolean;
  readonly usage: ModelAnswer["usage"];
  readonly modelMs: number;
}

/** Makes the assistant's turn. @throws {Problem} 503 if the model does not answer */
export async function converse(
  call: Call,
  tools: Tools,
  options: TurnOptions,
): Promise<Conversation> {
  const { features } = options;
  const { turns, notes } = await shape(call, tools, options);
  const asking = new Asking(options);
  try {
    const talk = await rounds(call, tools, { options, turns, asking, notes });
    if (features.state) {
      const used = talk.steps.flatMap((step) =>
        step.outcomes.map(({ call: made }) => String(made.name))
      );
      const changes = used.length === 0 ? {} : { last_tools: used };
      const state = await tried(
        tools,
        "state",
        () => tools.features.advanceState(options.chatId, options.id, changes),
      );
      if (state !== undefined) notes.state = { turn: state.turn };
    }
    return { ...talk, notes, usage: asking.usage, modelMs: asking.ms };
  } finally {
    asking.end();
  }
}

/** Chooses what of the conversation the model gets to see. */
async function shape(
  call: Call,
  tools: Tools,
  { turns: history, features, chatId }: TurnOptions,
): Promise<{ turns: readonly Turn[]; notes: Record<string, unknown> }> {
  const notes: Record<string, unknown> = {};
  let turns = features.memory ? history : history.slice(-1);
  if (features.compression) {
    const known = await tried(tools, "summary", () => tools.features.summary(chatId));
    const budget = setting(call, "chat_context_budget_tokens", 2_000);
    const { turns: fitting, summary, left } = compress(turns, budget, known);
    if (summary !== undefined && summary.coveredTo !== known?.coveredTo) {
      await tried(tools, "summary", () => tools.features.keepSummary(chatId, summary));
    }
    if (left > 0) notes.compressed = { turns: left };
    turns = fitting;
  }
  if (!features.memory) return { turns, notes };
  const fact = factIn(
    wordsOf(history.findLast((turn) => turn.role === "user") ?? { role: "", content: [] }),
  );
  if (fact !== undefined) {
    await tried(tools, "memory", () => tools.features.addFact(fact));
    notes.remembered = fact;
  }
  const facts = await tried(tools, "memory", () => tools.features.facts(MOST_FACTS));
  return { turns: [...tellFacts((facts ?? []).map((row) => row.fact)), ...turns], notes };
}

interface Rounds {
  readonly options: TurnOptions;
  readonly turns: readonly Turn[];
  readonly asking: Asking;
  readonly notes: Record<string, unknown>;
}

async function rounds(
  call: Call,
  tools: Tools,
  { options, turns: first, asking, notes }: Rounds,
): Promise<Pick<Conversation, "steps" | "final" | "cancelled">> {
  const { features, emit } = options;
  const context = { features: tools.features, backend: options.backend, now: tools.now };
  const steps: Step[] = [];
  let turns = first;
  for (let round = 1;; round++) {
    const request: ModelRequest = {
      turns,
      // The last round must end in words.
      tools: features.tools && round < MOST_ROUNDS ? describeTools(context) : [],
      parallelTools: features.parallelTools,
    };
    const ask = (): Promise<Answered> => asking.ask(request);
    const { answer, cancelled } = features.caching && round === 1
      ? await cached(call, tools, { request, ask, emit, notes })
      : await ask();
    if (answer.outcome !== "called" || cancelled || round >= MOST_ROUNDS) {
      return { steps, final: { ...answer, content: answer.content.map(stopped) }, cancelled };
    }
    const calls = answer.content.filter(isToRun);
    for (const made of calls) {
      const { tool_call_id: id, name } = made;
      emit({ event: "tool_call", data: { id, name, arguments: argumentsOf(made) } });
    }
    const outcomes = await runTools(calls, context, { parallel: features.parallelTools });
    for (const { result: { tool_call_id: id, output, is_error } } of outcomes) {
      emit({ event: "tool_result", data: { id, output, is_error } });
    }
    steps.push({ answer, outcomes });
    turns = [...turns, ...stepTurns({ answer, outcomes })];
  }
}

/** A round as the model and the tables get it: what it said, then one turn for each result. */
export function stepTurns({ answer, outcomes }: Step): Turn[] {
  const content = answer.content.map((block) => {
    const result = outcomes.find(({ call }) => call === block)?.result;
    if (result === undefined) return block;
    const isError = result.is_error === true;
    const state = isError
      ? { state: "error", error: String(result.output) }
      : { state: "complete" };
    return { ...block, ...state, executor: "server" };
  });
  const results = outcomes.map(({ result }): Turn => ({ role: "tool", content: [result] }));
  return [{ role: "assistant", content }, ...results];
}

interface Cached {
  readonly request: ModelRequest;
  readonly ask: () => Promise<Answered>;
  readonly emit: TurnOptions["emit"];
  readonly notes: Record<string, unknown>;
}

async function cached(
  call: Call,
  tools: Tools,
  { request, ask, emit, notes }: Cached,
): Promise<Answered> {
  const key = await cacheKey(tools.modelName, request);
  const row = await tried(tools, "cache", () => tools.features.cached(key));
  const known = row === undefined ? undefined : fromRow(row);
  if (known !== undefined) {
    const text = wordsOf({ role: "assistant", content: known.content });
    emit({ event: "text_delta", data: { text } });
    notes.cached = true;
    return { answer: known, cancelled: false };
  }
  const answered = await ask();
  const { answer, cancelled } = answered;
  // What tools say depends on the moment, and half an answer is none.
  if (!cancelled && answer.outcome === "answered") {
    const lifetimeS = setting(call, "chat_cache_ttl_s", 300);
    await tried(tools, "cache", () => tools.features.keepCached(key, toRow(answer), lifetimeS));
  }
  return answered;
}

interface Answered {
  readonly answer: ModelAnswer;
  /** The client went away in the middle. */
  readonly cancelled: boolean;
}

/** Asks the model within one time limit for all rounds, and adds up what it took. */
class Asking {
  ms = 0;
  usage = { input_tokens: 0, output_tokens: 0 };
  readonly #options: TurnOptions;
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #gone = (): void => this.#controller.abort();

  constructor(options: TurnOptions) {
    this.#options = options;
    this.#timer = setTimeout(this.#gone, LONGEST_TURN_MS);
    options.signal?.addEventListener("abort", this.#gone);
    if (options.signal?.aborted) this.#gone();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener("abort", this.#gone);
  }

  async ask(request: ModelRequest): Promise<Answered> {
    const { model, emit, signal } = this.#options;
    let said = "";
    const onText = (text: string): void => {
      said += text;
      emit({ event: "text_delta", data: { text } });
    };
    const asked = performance.now();
    try {
      const streaming = signal === undefined ? {} : { onText };
      const answer = await model({
        ...request,
        signal: this.#controller.signal,
        ...streaming,
      });
      const { input_tokens, output_tokens } = answer.usage;
      this.usage.input_tokens += input_tokens;
      this.usage.output_tokens += output_tokens;
      return { answer, cancelled: answer.outcome === "failed" && signal?.aborted === true };
    } catch (error) {
      if (signal?.aborted !== true || said === "") throw error;
      // Stopped by the user: what was read until then must not be gone when the chat is reopened.
      const usage = { input_tokens: 0, output_tokens: 0 };
      const content = [{ type: "text", text: said }];
      const answer = { content, outcome: "failed", usage, finishReason: "cancelled" } as const;
      return { answer, cancelled: true };
    } finally {
      this.ms += performance.now() - asked;
    }
  }
}

/** Runs what a reply can do without; logs a failure and answers `undefined`. */
async function tried<T>(
  tools: Tools,
  feature: string,
  run: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await run();
  } catch (error) {
    tools.log(`The reply goes on without its ${feature}`, error);
    return undefined;
  }
}

function setting(call: Call, name: string, otherwise: number): number {
  const value = call.view.snapshot.settings.get(name);
  return typeof value === "number" && value > 0 ? value : otherwise;
}
