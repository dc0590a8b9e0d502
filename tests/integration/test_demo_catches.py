"""A demo that cannot fail proves nothing: break the engine on purpose, and it must say so.

That the same demo passes when nothing is broken is what test_demo.py shows.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.demo_runs import SHORT, run_short

SHORTER = replace(SHORT, settle_s=0.8, rollback_timeout_s=6.0, kill_cycles=2, shadow_reads=4)

TO_VERIFY = frozenset({"users", "history", "clients", "dualwrite", "backfill", "verify"})
TO_LIVE = TO_VERIFY | {"shadow", "live_5", "live_25"}

# Not by ALTER TABLE ... DISABLE TRIGGER: the engine sees that itself and refuses to go on.
MIRROR_IS_OFF = """
do $$
declare
  v_function regprocedure;
  v_found integer := 0;
begin
  for v_function in
    select p.oid from pg_proc p
    where p.pronamespace = 'crossfade_private'::regnamespace
      and p.proname ~ '^mirror_chat_messages_v1_(insert|update|delete)'
  loop
    execute format('create or replace function %s returns trigger language plpgsql as %L',
      v_function, 'begin return null; end');
    v_found := v_found + 1;
  end loop;
  assert v_found = 3, 'the mirror is somewhere else now';
end $$;
"""

FENCE_IS_OPEN = """
create or replace function crossfade_private.fence_engaged(pair text)
returns boolean language sql stable set search_path = '' as 'select false';
"""

NO_ROW_LOCK = """
do $$
declare
  v_function regprocedure;
  v_found integer := 0;
begin
  for v_function in
    select p.oid from pg_proc p
    where p.pronamespace = 'crossfade_private'::regnamespace and p.prosrc ~ 'for share of \\w+'
  loop
    execute regexp_replace(pg_get_functiondef(v_function), ' for share of \\w+', '', 'g');
    v_found := v_found + 1;
  end loop;
  assert v_found > 0, 'the row lock is somewhere else now';
end $$;
"""

ROLLBACK_DOES_NOTHING = """
do $$
declare
  v_function regprocedure := 'crossfade.rollback(text, text, text, boolean, boolean, bigint)';
  v_before text := pg_get_functiondef(v_function);
  v_after text := replace(v_before, 'if not dry_run and v_plan <> ''[]'' then', 'if false then');
begin
  assert v_after <> v_before, 'the rollback happens somewhere else now';
  execute v_after;
end $$;
"""


@pytest.mark.parametrize(
    ("sabotage", "steps", "broken", "said"),
    [
        pytest.param(
            MIRROR_IS_OFF, TO_VERIFY, {"completed", "lost", "mismatches"}, "mirror", id="mirror"
        ),
        pytest.param(NO_ROW_LOCK, TO_VERIFY, {"completed", "zombies"}, "row lock", id="row_lock"),
        pytest.param(
            ROLLBACK_DOES_NOTHING,
            TO_LIVE | {"fault"},
            {"completed"},
            "automatic rollback did not happen",
            id="rollback",
        ),
        pytest.param(
            FENCE_IS_OPEN,
            TO_LIVE | {"kill"},
            {"completed", "v2_writes_after_kill"},
            "fence",
            id="fence",
        ),
    ],
)
def test_a_broken_engine_is_caught_and_named(
    stack_root: Path,
    request: pytest.FixtureRequest,
    sabotage: str,
    steps: frozenset[str],
    broken: set[str],
    said: str,
) -> None:
    folder = stack_root / f"demo-{request.node.callspec.id}"
    report, shown = run_short(folder, rows=1500, only=steps, sabotage_sql=sabotage, pace=SHORTER)
    print(shown)
    assert {promise.name for promise in report.broken} >= broken
    assert any(said in promise.meaning for promise in report.broken)
    assert report.clients.v1_errors == 0, "V1 clients are served from V1 whatever is broken"
