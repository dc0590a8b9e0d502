/**
 * Unleash's published cases that have a counterpart here: rollouts, stickiness, lists of users and
 * parents. A client that comes from Unleash at whole percentages keeps its users.
 *
 * @module
 */

import assert from "node:assert/strict";
import simple from "@unleash/client-specification/specifications/01-simple-examples.json" with {
  type: "json",
};
import userWithId from "@unleash/client-specification/specifications/02-user-with-id-strategy.json" with {
  type: "json",
};
import gradualUserId from "@unleash/client-specification/specifications/03-gradual-rollout-user-id-strategy.json" with {
  type: "json",
};
import gradualSessionId from "@unleash/client-specification/specifications/04-gradual-rollout-session-id-strategy.json" with {
  type: "json",
};
import multiple from "@unleash/client-specification/specifications/07-multiple-strategies.json" with {
  type: "json",
};
import flexible from "@unleash/client-specification/specifications/10-flexible-rollout-strategy.json" with {
  type: "json",
};
import stickiness from "@unleash/client-specification/specifications/12-custom-stickiness.json" with {
  type: "json",
};
import dependent from "@unleash/client-specification/specifications/17-dependent-features.json" with {
  type: "json",
};
import names from "@unleash/client-specification/specifications/18-utf8-flag-names.json" with {
  type: "json",
};
import { murmur3 } from "../../supabase/functions/_shared/crossfade/flags/bucket.ts";
import { evaluate, isEnabled } from "../../supabase/functions/_shared/crossfade/flags/evaluate.ts";
import {
  buildSnapshot,
  parseFlag,
  type Row,
} from "../../supabase/functions/_shared/crossfade/flags/snapshot.ts";

interface Strategy {
  readonly name: string;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly constraints?: readonly unknown[];
  readonly segments?: readonly unknown[];
}

interface Feature {
  readonly name: string;
  readonly enabled: boolean;
  readonly strategies?: readonly Strategy[];
  readonly dependencies?: readonly {
    readonly feature: string;
    readonly enabled?: boolean;
    readonly variants?: readonly string[];
  }[];
}

type UnleashContext = Readonly<Record<string, string | Record<string, string> | undefined>>;

interface Specification {
  readonly name: string;
  readonly state: { readonly features: readonly Feature[] };
  readonly tests?: readonly {
    readonly description: string;
    readonly context: UnleashContext;
    readonly toggleName: string;
    readonly expectedResult: boolean;
  }[];
}

const SPECIFICATIONS = [
  simple,
  userWithId,
  gradualUserId,
  gradualSessionId,
  multiple,
  flexible,
  stickiness,
  dependent,
  names,
] as unknown as Specification[];

/** Where crossfade answers otherwise on purpose. */
const DIFFERENT: Readonly<Record<string, string>> = {
  "Feature.A3 should be disabled when no user on context": "100 % is everybody, known or not",
  "Feature.A4 should be disabled when no user on context": "100 % is everybody, known or not",
  "Child is disabled if there's a cyclic dependency with the parent.":
    "a parent's own parents are not looked at",
  "Child is disabled if a transitive dependency exists.":
    "a parent's own parents are not looked at",
};

/** A feature as a flag, with the field that its percentage is taken over. */
interface Mapped {
  readonly row: Row;
  readonly stickiness: string;
}

/** Maps a feature; `undefined` where it has a rule that crossfade does not. */
function map(feature: Feature): Mapped | undefined {
  const strategies = feature.strategies ?? [];
  if (strategies.some((one) => one.constraints?.length || one.segments?.length)) return undefined;
  const parents = feature.dependencies ?? [];
  if (parents.some((parent) => parent.enabled === false || parent.variants?.length)) {
    return undefined;
  }
  const rollouts = strategies.filter((one) => ROLLOUTS[one.name] !== undefined);
  const known = strategies.every((one) =>
    one.name === "default" || one.name === "userWithId" || ROLLOUTS[one.name] !== undefined
  );
  if (!known || rollouts.length > 1) return undefined;
  const always = strategies.length === 0 || strategies.some((one) => one.name === "default");
  const [rollout] = rollouts;
  const given = rollout?.parameters ?? {};
  const field = ROLLOUTS[rollout?.name ?? ""] ?? "default";
  const row = {
    name: feature.name,
    enabled: feature.enabled,
    default_value: always,
    cohort_key: given.groupId ?? feature.name,
    percentage: always || rollout === undefined ? null : given.percentage ?? given.rollout ?? "0",
    prerequisites: parents.map((parent) => parent.feature),
    allow_user_ids: strategies.filter((one) => one.name === "userWithId")
      .flatMap((one) => (one.parameters?.userIds ?? "").split(",").map((id) => id.trim())),
  };
  return { row, stickiness: field === "own" ? given.stickiness ?? "default" : field };
}

/** Strategies that take a share, and over what. */
const ROLLOUTS: Readonly<Record<string, string>> = {
  gradualRolloutUserId: "userId",
  gradualRolloutSessionId: "sessionId",
  flexibleRollout: "own",
};

function unitOf(context: UnleashContext, field: string): string {
  const properties = context.properties;
  const read = (name: string): string => {
    const own = typeof properties === "object" ? properties[name] : undefined;
    const value = context[name] ?? own;
    return typeof value === "string" ? value : "";
  };
  return field === "default" ? read("userId") || read("sessionId") : read(field);
}

let compared = 0;

for (const { name, state, tests } of SPECIFICATIONS) {
  const mapped = new Map(state.features.map((feature) => [feature.name, map(feature)]));
  const rows = [...mapped.values()].flatMap((one) => one === undefined ? [] : [one.row]);
  const snapshot = buildSnapshot({
    version: 1,
    origin: "database",
    flags: rows.map(parseFlag),
    killSwitches: [],
    pairs: [],
  });
  for (const { description, context, toggleName, expectedResult } of tests ?? []) {
    const feature = mapped.get(toggleName);
    const parents = (feature?.row.prerequisites ?? []) as string[];
    const exists = state.features.some((one) => one.name === toggleName);
    if (exists && feature === undefined) continue;
    if (parents.some((parent) => mapped.has(parent) && mapped.get(parent) === undefined)) continue;
    const why = DIFFERENT[description];
    const expected = why === undefined ? expectedResult : !expectedResult;
    compared += 1;
    Deno.test(`unleash ${name}: ${description}${why ? ` (not here: ${why})` : ""}`, () => {
      // A list names users; a share may be taken over another field.
      const userId = context.userId as string | undefined;
      const unit = unitOf(context, feature?.stickiness ?? "default");
      const listed = (feature?.row.allow_user_ids as string[] ?? []).includes(userId ?? "");
      const asked = { user_id: listed ? userId : unit };
      assert.equal(isEnabled(snapshot, toggleName, asked), expected);
      const details = evaluate(snapshot, toggleName, asked);
      assert.equal(details.value, expected);
    });
  }
}

Deno.test("unleash: as many cases are compared as when this was written", () => {
  assert.equal(compared, 49);
});

Deno.test("unleash: its normalised number is the whole percent of our bucket", async () => {
  const { normalizedStrategyValue } = await import("unleash-client/lib/strategy/util.js");
  for (let i = 0; i < 5_000; i++) {
    const id = `user-${i}-${crypto.randomUUID()}`;
    assert.equal(murmur3(`chat-v2:${id}`) % 100 + 1, normalizedStrategyValue(id, "chat-v2"), id);
  }
});
