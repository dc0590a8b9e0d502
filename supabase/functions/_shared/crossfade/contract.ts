/**
 * Names that every language must agree on; compared with tests/vectors/contract.json.
 *
 * @module
 */

/** Where a pair stands, from the beginning of a migration to its end. */
export const STAGES = [
  "off",
  "dualwrite",
  "shadow",
  "live",
  "rampdown",
  "complete",
  "retired",
] as const;
export type Stage = (typeof STAGES)[number];

/** Sizes of a rollback, smallest first. */
export const LEVELS = ["FEATURE", "PARTIAL", "COMPLETE", "EMERGENCY"] as const;
export type Level = (typeof LEVELS)[number];

/** What a health rule says, best first; the worst of several wins. */
export const VERDICTS = ["PASS", "HOLD", "ERROR", "FAIL"] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Why an evaluation answered what it did: OpenFeature's words only, so that its clients accept them. */
export const REASONS = [
  "STATIC",
  "DEFAULT",
  "TARGETING_MATCH",
  "SPLIT",
  "DISABLED",
  "STALE",
  "ERROR",
] as const;
export type Reason = (typeof REASONS)[number];

/** Rules of a flag's evaluation in order; `unknown` and `stale` are answers without a rule. */
export const EVALUATION_RULES = [
  "kill_switch",
  "disabled",
  "prerequisite",
  "deny",
  "allow",
  "percentage",
  "default",
  "unknown",
  "stale",
] as const;
export type EvaluationRule = (typeof EVALUATION_RULES)[number];

/** Rules of the choice of a backend. */
export const BACKEND_RULES = [
  "kill_switch",
  "stage",
  "gate_flag",
  "deny",
  "allow",
  "percentage",
  "default",
  "stale",
] as const;
export type BackendRule = (typeof BACKEND_RULES)[number];

/** How a request ended; a fallback to backend 1 counts as an error of backend 2. */
export const OUTCOMES = [
  "ok",
  "error",
  "fallback",
  "client_error",
  "shadow_match",
  "shadow_mismatch",
] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const SUPPORTED_VERSIONS = [1, 2] as const;
export type Version = (typeof SUPPORTED_VERSIONS)[number];

/** Where the wire version was read, highest first. */
export const VERSION_SOURCES = ["header", "accept", "url", "default"] as const;
export type VersionSource = (typeof VERSION_SOURCES)[number];

/** Codes the database puts into `detail.code`, with their HTTP status. */
export const ERROR_CODES = {
  CF001: 404,
  CF002: 404,
  CF003: 404,
  CF004: 400,
  CF005: 409,
  CF006: 409,
  CF007: 400,
  CF008: 400,
  CF009: 404,
  CF010: 409,
  CF011: 409,
  CF012: 400,
  CF013: 409,
  CF014: 404,
  CF015: 404,
  CF016: 409,
  CF018: 409,
  CF020: 403,
  CF021: 404,
  CF022: 409,
  CF023: 409,
  CF024: 409,
  CF025: 409,
  CF026: 404,
  CF027: 409,
  CF028: 409,
  CF_FENCED: 409,
  CF_ARCHIVED: 409,
  CF_CLOSED: 409,
} as const;

/** Functions of schema `crossfade` that the edge calls, with their parameters. */
export const EDGE_RPCS = {
  read_flags: ["known_version"],
  record_requests: ["batch"],
  record_exposures: ["batch"],
  repair: ["pair", "max_rows", "reason", "follower_only"],
  rollback: ["level", "scope", "reason", "automatic", "dry_run", "expected_step"],
  pair_status: ["pair"],
  start_backfill: ["pair", "direction", "ranges"],
  backfill_batch: ["run", "target_ms"],
  check_conversion: ["pair", "side", "after", "max_rows"],
  control_run: ["run", "action", "reason"],
  run_status: ["run"],
  restore_snapshot: ["id", "reason"],
} as const;

/** The private Realtime topic on which changes are announced, and its events. */
export const BROADCAST_TOPIC = "crossfade:flags";
export const BROADCAST_EVENTS = {
  flags_changed: ["flags_version"],
  kill: ["flags_version", "name", "engaged"],
  rollback: ["flags_version", "pair", "level"],
} as const;

/** Headers a browser may send: those of the Supabase clients, then ours. */
export const REQUEST_HEADERS = [
  "authorization",
  "x-client-info",
  "apikey",
  "content-type",
  "x-retry-count",
  "traceparent",
  "tracestate",
  "baggage",
  "sentry-trace",
  "x-region",
  "x-supabase-api-version",
  "accept-language",
  "prefer",
  "if-none-match",
  "last-event-id",
  "x-api-version",
  "x-idempotency-key",
  "x-agent-id",
  "x-request-id",
] as const;

/** Headers a browser may read. */
export const RESPONSE_HEADERS = [
  "X-API-Version",
  "X-API-Version-Source",
  "X-API-Supported-Versions",
  "Deprecation",
  "Sunset",
  "Link",
  "Retry-After",
  "X-Crossfade-Backend",
  "X-Crossfade-Flags-Version",
  "X-Crossfade-Reason",
  "X-Request-Id",
] as const;

/** Problem types of the HTTP API and the statuses they come with. */
export const PROBLEMS = {
  "invalid-api-version": [400, 406],
  "unsupported-api-version": [400, 404, 406],
  "ambiguous-api-version": [400],
  "body-version-mismatch": [400],
  "unsupported-media-type": [415],
  "version-disabled": [503],
  "version-retired": [410],
  "invalid-body": [400],
  "invalid-message": [422],
  "body-too-large": [413],
  "body-too-deep": [400],
  "unauthorized": [401],
  "forbidden": [403],
  "not-found": [404],
  "method-not-allowed": [405],
  "conflict": [409],
  "upstream-unavailable": [503],
  "internal-error": [500],
} as const;
export type ProblemType = keyof typeof PROBLEMS;

export const LATENCY_BUCKETS = 80;
export const LATENCY_BUCKETS_PER_OCTAVE = 4;

/** Returns the histogram bucket of a latency; the upper bound of bucket i is 2^(i/4) ms. */
export function latencyBucket(latencyMs: number): number {
  if (!(latencyMs >= 1)) return 0;
  const bucket = Math.floor(LATENCY_BUCKETS_PER_OCTAVE * Math.log2(latencyMs)) + 1;
  return Math.min(bucket, LATENCY_BUCKETS - 1);
}
