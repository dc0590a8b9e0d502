/**
 * What the assistant's writer gets and gives, whoever it is.
 *
 * @module
 */

/** A call of a tool as the model wrote it: the arguments are its exact text. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

/** One earlier message as text. */
export interface Turn {
  readonly role: string;
  readonly text: string;
  /** Id of the stored message; absent for what the function adds itself. */
  readonly id?: string;
  /** Calls an assistant made in this turn. */
  readonly toolCalls?: readonly ToolCall[];
  /** The call that a turn of role `tool` answers. */
  readonly toolCallId?: string;
}

/** A tool as the model gets to know it. */
export interface ToolDescription {
  readonly name: string;
  readonly description: string;
  readonly input_schema: Readonly<Record<string, unknown>>;
}

export interface ModelRequest {
  readonly turns: readonly Turn[];
  readonly tools: readonly ToolDescription[];
  /** Whether several tools may be called in one turn. */
  readonly parallelTools: boolean;
  /** Ends the work when the client has gone. */
  readonly signal?: AbortSignal;
  /** Called with each piece of text as it arrives; absent when nobody waits for pieces. */
  readonly onText?: (text: string) => void;
}

export interface Completion {
  readonly text: string;
  readonly toolCalls?: readonly ToolCall[];
  readonly model: string;
  readonly usage: { readonly input_tokens: number; readonly output_tokens: number };
  readonly finishReason: string;
}

/** @throws {Problem} 503 if the model does not answer */
export type Model = (request: ModelRequest) => Promise<Completion>;
