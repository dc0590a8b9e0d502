import assert from "node:assert/strict";
import { Problem } from "../../supabase/functions/_shared/crossfade/http/errors.ts";
import {
  problemResponse,
  setAnswerHeaders,
} from "../../supabase/functions/_shared/crossfade/http/http.ts";
import {
  bodyVersion,
  checkBodyTag,
  negotiate,
  type Negotiated,
} from "../../supabase/functions/_shared/crossfade/negotiation/negotiation.ts";
import {
  PROBLEMS,
  type VersionSource,
} from "../../supabase/functions/_shared/crossfade/contract.ts";
import { readVectors } from "./vectors.ts";

interface Input {
  readonly path: string;
  readonly headers?: readonly [string, string][];
  readonly body?: unknown;
  readonly disabled?: readonly number[];
  readonly retired?: readonly number[];
}

/** The outcome as the vectors write it down. */
function run(input: Input): Record<string, unknown> {
  const headers = new Headers();
  for (const [name, value] of input.headers ?? []) headers.append(name, value);
  const { disabled = [], retired = [] } = input;
  const result = negotiate({ headers, path: input.path }, {
    functionName: "chat",
    disabled,
    retired,
  });
  if (result.kind === "refused") return refusal(result.problem, result.source);
  if (input.body === undefined) return served(result);
  try {
    const version = bodyVersion(headers.get("content-type"), { wire: result.version });
    checkBodyTag(input.body, version);
    return { ...served(result), body_version: version };
  } catch (error) {
    assert.ok(error instanceof Problem);
    return refusal(error, result.source);
  }
}

function served({ version, source, resource, conflict, contentType }: Negotiated) {
  return { version, source, resource, conflict, content_type: contentType };
}

function refusal(problem: Problem, source: VersionSource): Record<string, unknown> {
  const response = problemResponse(problem, { instance: "/", requestId: "r" });
  setAnswerHeaders(response.headers, { version: 1, source, requestId: "r" });
  const allowed: readonly number[] = PROBLEMS[problem.type];
  assert.ok(allowed.includes(problem.status), `${problem.type} with ${problem.status}`);
  return {
    status: problem.status,
    problem: problem.type,
    source,
    requested: problem.members.requested,
    supported: problem.members.supported,
    headers: Object.fromEntries(response.headers),
  };
}

for (const { name, input, expect } of readVectors("negotiation").cases) {
  Deno.test(`negotiate() ${name}`, () => {
    const actual = run(input as unknown as Input);
    const { headers, ...rest } = expect;
    for (const [key, value] of Object.entries(rest)) assert.deepEqual(actual[key], value, key);
    for (const [key, value] of Object.entries(headers ?? {})) {
      assert.equal((actual.headers as Record<string, string>)[key], value, key);
    }
    if ("status" in expect) assert.deepEqual(actual.supported, ["1", "2"]);
  });
}
