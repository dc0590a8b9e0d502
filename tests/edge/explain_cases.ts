/**
 * Explains flags for cases on stdin and prints the answers: the edge's side of a comparison with SQL
 * and Python. Run by tests/sql.
 *
 * @module
 */

import { chooseBackend } from "../../supabase/functions/_shared/crossfade/flags/choose_backend.ts";
import { explain } from "../../supabase/functions/_shared/crossfade/flags/explain.ts";
import { isEnabled } from "../../supabase/functions/_shared/crossfade/flags/evaluate.ts";
import { parseSnapshot } from "../../supabase/functions/_shared/crossfade/flags/snapshot.ts";

const cases = JSON.parse(await new Response(Deno.stdin.readable).text());
const answers = cases.map(({ state, contexts }: { state: never; contexts: never[] }) => {
  const snapshot = parseSnapshot(state);
  return contexts.map((context) => ({
    flags: [...snapshot.flags.keys()].map((name) => {
      const answer = explain(snapshot, name, context);
      // The hot path must agree with the one that explains.
      const quick = isEnabled(snapshot, name, context);
      if (quick !== answer.value) throw new Error(`isEnabled() differs for ${name}`);
      return answer;
    }),
    backends: [...snapshot.pairs.keys()].map((name) => chooseBackend(snapshot, name, context)),
  }));
});
console.log(JSON.stringify(answers));
