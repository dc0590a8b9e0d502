/**
 * What providers refuse, as their documents and errors say it; each rule was somebody's 400.
 *
 * @module
 */

type Row = Record<string, unknown>;

const ID = /^[a-zA-Z0-9_-]+$/;
const rows = (value: unknown): Row[] => Array.isArray(value) ? value as Row[] : [];

/** Returns what a provider would refuse of a conversation; nothing of one that it takes. */
export function refusals(provider: string, messages: readonly Row[]): string[] {
  const found: string[] = [];
  const RULES: Record<string, (messages: readonly Row[], say: (fault: string) => void) => void> = {
    openai_chat: chat,
    openai_responses: responses,
    anthropic,
  };
  RULES[provider]?.(messages, (fault) => found.push(fault));
  return found;
}

function chat(messages: readonly Row[], say: (fault: string) => void): void {
  const used = new Set<unknown>();
  let open: unknown[] = [];
  for (const { role, content, tool_calls, tool_call_id } of messages) {
    if (role === "tool") {
      if (open.shift() !== tool_call_id) say(`result ${tool_call_id} does not follow its call`);
      const isText = rows(content).every(({ type }) => type === "text");
      if (typeof content !== "string" && !(Array.isArray(content) && isText)) {
        say("result: no text");
      }
      continue;
    }
    if (open.length > 0) say(`${role} before the results of ${open}`);
    open = rows(tool_calls).map(({ id }) => id);
    for (const id of open) {
      if (!ID.test(String(id)) || String(id).length > 40) say(`id ${id}`);
      if (used.has(id)) say(`id ${id} twice`);
      used.add(id);
    }
    for (const call of rows(tool_calls)) {
      const { name } = (call.function ?? call.custom ?? {}) as Row;
      if (!/^[a-zA-Z0-9_-]{1,64}$/.test(String(name))) say(`name ${name}`);
    }
    const known = role === "user"
      ? ["text", "image_url", "input_audio", "file"]
      : ["text", "refusal"];
    for (const part of rows(content)) {
      if (!known.includes(String(part.type))) say(`part ${part.type}`);
    }
    if (content === null && open.length === 0) say(`${role} says nothing`);
    if (content === "" || (Array.isArray(content) && content.length === 0)) say(`${role} is empty`);
  }
  if (open.length > 0) say(`no results of ${open}`);
}

function responses(items: readonly Row[], say: (fault: string) => void): void {
  const open = new Map<unknown, string>();
  const used = new Set<unknown>();
  for (const [place, item] of items.entries()) {
    const { type, role, content, call_id: id } = item;
    if (type === "message") {
      const known = role === "assistant"
        ? ["output_text", "refusal"]
        : ["input_text", "input_image", "input_file"];
      for (const part of rows(content)) {
        if (!known.includes(String(part.type))) say(`part ${part.type}`);
      }
      if (rows(content).length === 0) say(`${role} says nothing`);
    } else if (type === "function_call" || type === "custom_tool_call") {
      if (!ID.test(String(id)) || String(id).length > 64) say(`id ${id}`);
      if (used.has(id)) say(`id ${id} twice`);
      if (item.id !== undefined && !/^(fc|ctc)_/.test(String(item.id))) say(`item ${item.id}`);
      used.add(id);
      open.set(id, `${type}_output`);
    } else if (type === "function_call_output" || type === "custom_tool_call_output") {
      const isOfCall = open.get(id) ===
        (type === "function_call_output" ? "function_call_output" : "custom_tool_call_output");
      if (!isOfCall) say(`${type} ${id} without its call`);
      open.delete(id);
    } else if (type === "reasoning") {
      const next = items[place + 1];
      if (next === undefined || next.role === "user") say("reasoning with nothing after it");
      if (item.id === undefined && item.encrypted_content === undefined) say("reasoning unproven");
    } else if (typeof type !== "string" || type.includes("tool_use")) say(`item ${type}`);
  }
  if (open.size > 0) say(`no results of ${[...open.keys()]}`);
}

function anthropic(messages: readonly Row[], say: (fault: string) => void): void {
  const used = new Set<unknown>();
  let open: unknown[] = [];
  let before: unknown;
  for (const { role, content } of messages) {
    if (role !== "user" && role !== "assistant") say(`role ${role}`);
    if (role === before) say(`${role} twice`);
    before = role;
    const blocks = rows(content);
    if (blocks.length === 0) say(`${role} says nothing`);
    const first = blocks.slice(0, open.length).map(({ tool_use_id }) => tool_use_id);
    if (open.some((id) => !first.includes(id))) say(`no results of ${open} at once`);
    for (const { type, text, id, tool_use_id, signature, data } of blocks) {
      if (type === "text" && String(text).trim() === "") say("empty text");
      if (type === "tool_result" && !open.includes(tool_use_id)) say(`result ${tool_use_id}`);
      if (type === "thinking" && !signature) say("unsigned thinking");
      if (type === "redacted_thinking" && !data) say("no thinking");
      if (type !== "tool_use") continue;
      if (!ID.test(String(id)) || String(id).length > 64) say(`id ${id}`);
      if (used.has(id)) say(`id ${id} twice`);
      used.add(id);
    }
    open = blocks.filter(({ type }) => type === "tool_use").map(({ id }) => id);
  }
  if (open.length > 0) say(`no results of ${open}`);
}
