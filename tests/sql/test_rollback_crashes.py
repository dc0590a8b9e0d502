"""Whatever kills a rollback wherever: the state is the one before or the one after, never between.

Every row that a rollback writes, in any table, is one place where it can die. A trigger that only
these tests add counts them and, at the n-th, raises or ends its own session; n goes from the first
to beyond the last, so that no place is left out.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.conftest import VERSIONS, begins_with
from tests.sql.control import Connection, call, create_pair, one
from tests.sql.rollouts import beat, judge, plan, start, step

# That a transaction is whole is no matter of the version; what it writes is proved on all of them.
pytestmark = pytest.mark.parametrize("template", VERSIONS[:1], indirect=True, scope="session")

FLAG = "use_advanced_messages"

# Outside of crossfade, so that its own tables stay as they are. A setting of the session says where
# to die; one that is local to the transaction counts, and ends with it.
BOMB = """
create schema bomb;
create function bomb.tick() returns trigger language plpgsql security definer as $$
declare
  v_row integer := coalesce(nullif(current_setting('bomb.row', true), '')::integer, 0) + 1;
begin
  perform set_config('bomb.row', v_row::text, true);
  if v_row::text = current_setting('bomb.at', true) then
    if current_setting('bomb.way', true) = 'terminate' then
      perform pg_terminate_backend(pg_backend_pid());
      perform pg_sleep(5);
    end if;
    raise exception 'bomb at row %', v_row;
  end if;
  return null;
end $$;
do $$
declare
  v_table text;
begin
  for v_table in
    select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and (n.nspname in ('crossfade', 'crossfade_private')
      or c.oid::regclass::text = 'realtime.messages')
  loop
    execute format('create trigger zz_bomb after insert or update or delete on %s
      for each row execute function bomb.tick()', v_table);
  end loop;
end $$;
"""

# Everything that control rows say, and how often it was said.
STATE = """
select jsonb_build_object(
  'control', crossfade_private.control_state() - 'wal_lsn',
  'mirror', (select jsonb_agg(m order by m.pair) from crossfade_private.mirror_state m),
  'rollouts', (select jsonb_agg(r order by r.id) from crossfade.rollouts r),
  'audit', (select count(*) from crossfade.audit),
  'rollbacks', (select count(*) from crossfade.rollbacks),
  'snapshots', (select count(*) from crossfade.snapshots),
  'messages', (select count(*) from realtime.messages))
"""


def prepare(db: Connection) -> None:
    """Two pairs live, one with a rollout, an unmirrored row, and bombs on every table."""
    for name in ("orders", "bills"):
        create_pair(db, name, stage="live", gate_flag=FLAG)
    beat(db)
    start(db, plan(step("ten", 10), step("forty", 40, flags={"enable_memory_system": True})))
    for _ in range(2):
        judge(db)
        call(db, "advance_rollout", "orders", call(db, "rollout_status", "orders")["step"])
    call(db, "set_cohort", "bills", {"percentage": 75}, "test")
    db.execute("alter table public.orders_v1 add constraint short check (length(body) < 5)")
    db.execute("insert into public.orders_v2 values (7, '\"too long\"')")
    admin = psycopg.connect(
        db.info.dsn.replace("user=postgres", "user=supabase_admin"), autocommit=True
    )
    with admin:
        admin.execute(BOMB)


def attempt(connect: Any, way: str, at: int, *call_of: Any) -> tuple[bool, int]:
    """Call in a session that dies at a row; whether it lived, and how many rows it wrote."""
    session: Connection = connect()
    session.execute("select set_config('bomb.way', %s, false)", [way])
    session.execute("select set_config('bomb.at', %s, false)", [str(at)])
    try:
        with session.transaction():
            call(session, *call_of)
            rows = int(one(session, "select current_setting('bomb.row')"))
    except psycopg.Error:
        return False, at
    return True, rows


@pytest.mark.parametrize("way", ["raise", "terminate"])
@pytest.mark.parametrize(
    ("level", "scope"),
    [("FEATURE", FLAG), ("PARTIAL", "orders"), ("COMPLETE", "orders"), ("EMERGENCY", "*")],
)
@begins_with(prepare)
def test_a_rollback_that_dies_at_any_row_has_not_happened_and_then_happens_once(
    db: Connection, connect: Any, level: str, scope: str, way: str
) -> None:
    before = one(db, STATE)
    seen = call(db, "rollout_status", "orders")["step"] if scope == "orders" else None
    rollback = ("rollback", level, scope, "R1: it broke", True, False, seen)
    deaths = 0
    while True:
        lived, rows = attempt(connect, way, deaths + 1, *rollback)
        if lived:
            break
        deaths += 1
        assert one(db, STATE) == before, f"something of it stayed after a death at row {deaths}"
        assert deaths < 500
    # At least the snapshot, the change, its audit, the latch, the log, the audit of the rollback.
    assert deaths == rows >= 6
    after = one(db, STATE)
    assert (after["rollbacks"], after["snapshots"]) == (1, before["snapshots"] + 1)
    assert after["control"] != before["control"]
    # The controller did not hear of it and asks again: once is enough.
    assert call(db, *rollback)["rollback"] is None
    assert one(db, STATE) == after


@pytest.mark.parametrize("way", ["raise", "terminate"])
@begins_with(prepare)
def test_a_restore_that_dies_at_any_row_has_not_happened(
    db: Connection, connect: Any, way: str
) -> None:
    done = call(db, "rollback", "PARTIAL", "orders", "test")
    before = one(db, STATE)
    deaths = 0
    while not attempt(
        connect, way, deaths + 1, "restore_snapshot", done["snapshot"], "that was wrong"
    )[0]:
        deaths += 1
        assert one(db, STATE) == before
        assert deaths < 500
    assert deaths >= 6
    assert call(db, "rollout_status", "orders")["percentage"] == 40


@pytest.mark.parametrize("way", ["raise", "terminate"])
@begins_with(prepare)
def test_a_step_that_dies_at_any_row_has_not_been_taken_and_then_is_taken_once(
    db: Connection, connect: Any, way: str
) -> None:
    beat(db)  # the last one may be long ago
    call(db, "control_rollout", "orders", "abort", "test", None, True)
    more = {"enable_caching": True, "enable_streaming_responses": 50}
    start(db, plan(step("forty", 40), step("ninety", 90, flags=more), name="more"))
    judge(db)
    seen = call(db, "rollout_status", "orders")["step"]
    before = one(db, STATE)
    deaths = 0
    while not attempt(connect, way, deaths + 1, "advance_rollout", "orders", seen)[0]:
        deaths += 1
        assert one(db, STATE) == before
        assert deaths < 500
    assert deaths >= 6
    answer = call(db, "advance_rollout", "orders", seen)
    assert (answer["advanced"], answer["stale"], answer["percentage"]) == (False, True, 90)
