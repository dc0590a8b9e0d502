import assert from "node:assert/strict";
import * as contract from "../../supabase/functions/_shared/crossfade/contract.ts";
import * as chat from "../../supabase/functions/chat/adapters/feature_flags.ts";
import { readVectors } from "./vectors.ts";

const cases = new Map(readVectors("contract").cases.map(({ name, expect }) => [name, expect]));

/** Names that the edge has no literal of: they belong to the control plane and to SQL. */
const NOT_OURS = [
  "rules",
  "rule_modes",
  "rollout_states",
  "mirror_states",
  "failure_policies",
  "operator_roles",
  "run_kinds",
  "batch_states",
  "run_actions",
  "follower_only",
  "repair_actions",
  "mismatch_kinds",
  "partition_removals",
  "cohort_fields",
  "actor_header",
  "request_event",
  "exposure",
  "settings",
];

const OURS: Readonly<Record<string, unknown>> = {
  stages: contract.STAGES,
  levels: contract.LEVELS,
  verdicts: contract.VERDICTS,
  reasons: contract.REASONS,
  evaluation_rules: contract.EVALUATION_RULES,
  backend_rules: contract.BACKEND_RULES,
  outcomes: contract.OUTCOMES,
  flags: chat.FLAGS,
  kill_switches: chat.KILL_SWITCHES,
  error_codes: contract.ERROR_CODES,
  broadcast: { topic: contract.BROADCAST_TOPIC, events: contract.BROADCAST_EVENTS },
  request_headers: contract.REQUEST_HEADERS,
  response_headers: contract.RESPONSE_HEADERS,
  version_sources: contract.VERSION_SOURCES,
  supported_versions: contract.SUPPORTED_VERSIONS,
  problems: contract.PROBLEMS,
  environment_flags: chat.ENVIRONMENT_FLAGS,
};

for (const [name, literal] of Object.entries(OURS)) {
  Deno.test(`contract.ts agrees about ${name}`, () => {
    assert.deepEqual(literal, cases.get(name));
  });
}

Deno.test("contract.ts agrees about the RPCs that the edge calls", () => {
  const rpcs = cases.get("rpcs") ?? {};
  for (const [name, parameters] of Object.entries(contract.EDGE_RPCS)) {
    assert.deepEqual(parameters, rpcs[name], name);
  }
});

Deno.test("latencyBucket() agrees with the histogram of the contract", () => {
  const { buckets, per_octave, examples } = cases.get("latency_histogram") as {
    buckets: number;
    per_octave: number;
    examples: [number, number][];
  };
  assert.equal(contract.LATENCY_BUCKETS, buckets);
  assert.equal(contract.LATENCY_BUCKETS_PER_OCTAVE, per_octave);
  for (const [latency, bucket] of examples) {
    assert.equal(contract.latencyBucket(latency), bucket, `${latency} ms`);
  }
});

Deno.test("every case of the contract is compared or named as not the edge's", () => {
  const known = [...Object.keys(OURS), ...NOT_OURS, "rpcs", "latency_histogram"];
  assert.deepEqual([...cases.keys()].toSorted(), known.toSorted());
});
