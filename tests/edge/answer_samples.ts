/**
 * One answer of each dialect, whole and as events, with all that such an answer may hold. Every text
 * is a word that stands nowhere else, so that a test can look for it.
 *
 * @module
 */

type Row = Record<string, unknown>;

export interface Sample {
  readonly name: string;
  /** The whole answer, or the events of a stream. */
  readonly bodies: readonly Row[];
  readonly isStream: boolean;
}

const GIVEN = '{"city":"w-oslo","days":[1,2]}';

const chatCalls = [
  { id: "call_a", type: "function", function: { name: "weather", arguments: GIVEN } },
  { id: "call_b", type: "function", function: { name: "clock", arguments: "{}" } },
];

const chatWhole: Row = {
  id: "1",
  object: "chat.completion",
  model: "m",
  choices: [{
    index: 0,
    message: {
      role: "assistant",
      content: "w-one w-two",
      refusal: null,
      reasoning_content: "w-three",
      tool_calls: chatCalls,
    },
    finish_reason: "tool_calls",
  }],
  usage: { prompt_tokens: 1, completion_tokens: 2 },
};

const chatParts: Row = {
  model: "m",
  choices: [{
    index: 0,
    message: {
      role: "assistant",
      content: [
        { type: "thinking", thinking: [{ type: "text", text: "w-four" }] },
        { type: "text", text: "w-five ż😊" },
        { type: "reference", reference_ids: [1] },
      ],
      refusal: "w-six",
    },
    finish_reason: "stop",
  }],
};

const chunk = (delta: Row, finish_reason: string | null = null): Row => ({
  object: "chat.completion.chunk",
  model: "m",
  choices: [{ index: 0, delta, finish_reason }],
});

const chatStream: readonly Row[] = [
  chunk({ role: "assistant", content: "" }),
  chunk({ reasoning: "w-three" }),
  chunk({ content: "w-one ż" }),
  chunk({ content: "😊 w-two" }),
  chunk({
    tool_calls: [{
      index: 0,
      id: "call_a",
      type: "function",
      function: { name: "weather", arguments: "" },
    }],
  }),
  chunk({ tool_calls: [{ index: 0, function: { arguments: '{"city":"w-os' } }] }),
  chunk({ tool_calls: [{ index: 0, function: { arguments: 'lo","days":[1,2]}' } }] }),
  chunk({
    tool_calls: [{ index: 1, id: "call_b", function: { name: "clock", arguments: "{}" } }],
  }),
  chunk({}, "tool_calls"),
  {
    object: "chat.completion.chunk",
    choices: [],
    usage: { prompt_tokens: 1, completion_tokens: 2 },
  },
];

const items: readonly Row[] = [
  {
    type: "reasoning",
    id: "rs_1",
    summary: [{ type: "summary_text", text: "w-one" }],
    encrypted_content: "w-two",
  },
  {
    type: "message",
    id: "msg_1",
    status: "completed",
    role: "assistant",
    content: [
      { type: "output_text", text: "w-three ż😊", annotations: [] },
      { type: "refusal", refusal: "w-four" },
    ],
  },
  { type: "web_search_call", id: "ws_1", status: "completed", action: { query: "w-five" } },
  { type: "function_call", id: "fc_1", call_id: "call_a", name: "weather", arguments: GIVEN },
  { type: "custom_tool_call", id: "ctc_1", call_id: "call_b", name: "sql", input: "w-six" },
];

const response = (status: string, output: readonly Row[]): Row => ({
  id: "resp_1",
  object: "response",
  model: "m",
  status,
  output,
  usage: { input_tokens: 1, output_tokens: 2 },
});

const responsesStream = (output: readonly Row[]): readonly Row[] => [
  { type: "response.created", response: response("in_progress", []) },
  {
    type: "response.output_item.added",
    output_index: 0,
    item: { type: "reasoning", id: "rs_1", summary: [] },
  },
  {
    type: "response.reasoning_summary_text.delta",
    item_id: "rs_1",
    output_index: 0,
    summary_index: 0,
    delta: "w-one",
  },
  { type: "response.output_item.done", output_index: 0, item: items[0] },
  { type: "response.output_item.added", output_index: 1, item: { ...items[1], content: [] } },
  {
    type: "response.output_text.delta",
    item_id: "msg_1",
    output_index: 1,
    content_index: 0,
    delta: "w-three ż",
  },
  {
    type: "response.output_text.delta",
    item_id: "msg_1",
    output_index: 1,
    content_index: 0,
    delta: "😊",
  },
  {
    type: "response.refusal.delta",
    item_id: "msg_1",
    output_index: 1,
    content_index: 1,
    delta: "w-four",
  },
  { type: "response.output_item.done", output_index: 1, item: items[1] },
  { type: "response.output_item.done", output_index: 2, item: items[2] },
  { type: "response.output_item.added", output_index: 3, item: { ...items[3], arguments: "" } },
  {
    type: "response.function_call_arguments.delta",
    item_id: "fc_1",
    output_index: 3,
    delta: GIVEN,
  },
  { type: "response.output_item.done", output_index: 3, item: items[3] },
  { type: "response.output_item.done", output_index: 4, item: items[4] },
  { type: "response.completed", response: response("completed", output) },
];

const blocks: readonly Row[] = [
  { type: "thinking", thinking: "w-one", signature: "w-two" },
  { type: "redacted_thinking", data: "w-three" },
  { type: "text", text: "w-four ż😊" },
  { type: "server_tool_use", id: "srvtoolu_1", name: "web_search", input: { query: "w-five" } },
  { type: "web_search_tool_result", tool_use_id: "srvtoolu_1", content: [{ title: "w-six" }] },
  { type: "tool_use", id: "call_a", name: "weather", input: JSON.parse(GIVEN) },
  { type: "tool_use", id: "call_b", name: "clock", input: {} },
];

const anthropicWhole: Row = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "m",
  content: blocks,
  stop_reason: "tool_use",
  usage: { input_tokens: 1, output_tokens: 2 },
};

const start = (index: number, content_block: Row): Row => ({
  type: "content_block_start",
  index,
  content_block,
});
const piece = (index: number, delta: Row): Row => ({ type: "content_block_delta", index, delta });

const anthropicStream: readonly Row[] = [
  { type: "message_start", message: { ...anthropicWhole, content: [], stop_reason: null } },
  start(0, { type: "thinking", thinking: "", signature: "" }),
  piece(0, { type: "thinking_delta", thinking: "w-one" }),
  piece(0, { type: "signature_delta", signature: "w-two" }),
  { type: "content_block_stop", index: 0 },
  start(1, { type: "redacted_thinking", data: "w-three" }),
  start(2, { type: "text", text: "" }),
  piece(2, { type: "text_delta", text: "w-four ż" }),
  piece(2, { type: "text_delta", text: "😊" }),
  start(3, { type: "server_tool_use", id: "srvtoolu_1", name: "web_search", input: {} }),
  piece(3, { type: "input_json_delta", partial_json: '{"query":"w-five"}' }),
  start(4, {
    type: "web_search_tool_result",
    tool_use_id: "srvtoolu_1",
    content: [{ title: "w-six" }],
  }),
  start(5, { type: "tool_use", id: "call_a", name: "weather", input: {} }),
  piece(5, { type: "input_json_delta", partial_json: "" }),
  piece(5, { type: "input_json_delta", partial_json: '{"city":"w-os' }),
  piece(5, { type: "input_json_delta", partial_json: 'lo","days":[1,2]}' }),
  start(6, { type: "tool_use", id: "call_b", name: "clock", input: {} }),
  { type: "message_delta", delta: { stop_reason: "tool_use" }, usage: { output_tokens: 2 } },
  { type: "message_stop" },
];

export const SAMPLES: readonly Sample[] = [
  { name: "chat", bodies: [chatWhole], isStream: false },
  { name: "chat of parts", bodies: [chatParts], isStream: false },
  { name: "chat", bodies: chatStream, isStream: true },
  { name: "responses", bodies: [response("completed", items)], isStream: false },
  { name: "responses", bodies: responsesStream(items), isStream: true },
  { name: "responses without last items", bodies: responsesStream([]), isStream: true },
  { name: "anthropic", bodies: [anthropicWhole], isStream: false },
  { name: "anthropic", bodies: anthropicStream, isStream: true },
];

/** Returns what a server sends. */
export function sent({ bodies, isStream }: Pick<Sample, "bodies" | "isStream">): string {
  if (!isStream) return JSON.stringify(bodies[0]);
  return bodies.map((body) => `data: ${JSON.stringify(body)}\n\n`).join("");
}
