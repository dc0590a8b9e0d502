/**
 * Flags as one request sees them.
 *
 * @module
 */

import { type BackendChoice, chooseBackend } from "./choose_backend.ts";
import { type Context, type Details, evaluate, isEnabled, type Options } from "./evaluate.ts";
import { explain, type Explanation } from "./explain.ts";
import type { Snapshot } from "./snapshot.ts";

/** Flags as one request sees them: the same snapshot from its first to its last line. */
export interface View {
  readonly snapshot: Snapshot;
  readonly stale: boolean;
  evaluate(name: string, context: Context): Details;
  /** Evaluates with every rule shown, and counts nothing. */
  explain(name: string, context: Context): Explanation;
  isEnabled(name: string, context: Context): boolean;
  chooseBackend(pair: string, context: Context): BackendChoice;
}

/** Makes the view of a snapshot. */
export function makeView(snapshot: Snapshot, options: Options & { readonly stale: boolean }): View {
  return {
    snapshot,
    stale: options.stale,
    evaluate: (name, context) => evaluate(snapshot, name, context, options),
    explain: (name, context) => explain(snapshot, name, context, options),
    isEnabled: (name, context) => isEnabled(snapshot, name, context, options),
    chooseBackend: (pair, context) => chooseBackend(snapshot, pair, context, options),
  };
}
