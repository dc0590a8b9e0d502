"""Between dualwrite and rampdown: the paused mirror, the continuous look, and who may see what."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from .conftest import Connect, Connection, begins_with
from .notes_pair import behind_the_mirror, create_notes, differences, rows
from .test_stages import codes, prepare

ONE = "00000000-0000-4000-8000-000000000001"
TWO = "00000000-0000-4000-8000-000000000002"


def mirror(db: Connection, mode: str) -> dict[str, Any]:
    ((answer,),) = db.execute("select crossfade.set_mirror('notes', %s, 'test')", [mode]).fetchall()
    found: dict[str, Any] = answer
    return found


def repair(db: Connection) -> dict[str, Any]:
    ((answer,),) = rows(db, "select crossfade.repair('notes')")
    found: dict[str, Any] = answer
    return found


# log_only -----------------------------------------------------------------------------------------


@begins_with(create_notes)
def test_log_only_notes_keys_and_repair_drains_them(db: Connection) -> None:
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(1, 20) g")
    db.execute("update public.notes_v2 set pinned = true where id = 5")
    mirror(db, "log_only")
    db.execute("update public.notes set body = 'edited' where id <= 3")
    db.execute("delete from public.notes where id = 4")
    db.execute("insert into public.notes (id, body) values (50, 'new')")
    db.execute("update public.notes set id = 60 where id = 5")
    db.execute("""update public.notes_v2 set parts = '["by v2"]' where id = 6""")
    assert rows(db, "select parts ->> 0 from public.notes_v2 where id = 1") == [("n",)]
    keys = rows(db, "select key, written_side from crossfade.mirror_failures order by key -> 'id'")
    assert keys == [
        *(({"id": n}, 1) for n in (1, 2, 3, 4)),
        ({"id": 6}, 2),
        *(({"id": n}, 1) for n in (50, 60)),
    ]
    # A counterpart follows its key at once: later nobody would know whose it was.
    assert rows(db, "select id from public.notes_v2 where pinned") == [(60,)]
    mirror(db, "both")
    assert repair(db)["remaining"] == 0
    assert differences(db) == []
    assert rows(db, "select body from public.notes where id = 6") == [("by v2",)]
    assert rows(db, "select id from public.notes_v2 where pinned") == [(60,)]


@begins_with(prepare, "shadow")
def test_log_only_survives_the_step_to_shadow_and_blocks_live(db: Connection) -> None:
    mirror(db, "log_only")
    assert "mirror_paused" in codes(db, "live")
    db.execute("select crossfade.set_stage('notes', 'dualwrite', 'test')")
    assert rows(db, "select mirror from crossfade_private.mirror_state") == [("log_only",)]


def test_the_mirror_cannot_be_paused_while_users_read_v2(db: Connection) -> None:
    prepare(db, "live")
    with pytest.raises(psycopg.Error) as refused:
        mirror(db, "log_only")
    assert json.loads(refused.value.diag.message_detail or "{}")["code"] == "CF005"


@begins_with(create_notes)
def test_unknown_mirror_mode_is_named(db: Connection) -> None:
    with pytest.raises(psycopg.Error, match='Unknown mirror mode "off"'):
        mirror(db, "off")


# Continuous verification --------------------------------------------------------------------------


def look(db: Connection, max_rows: int = 10) -> dict[str, Any]:
    ((answer,),) = rows(db, f"select crossfade.verify_some('notes', {max_rows})")
    found: dict[str, Any] = answer
    return found


@begins_with(prepare, "shadow")
def test_verify_some_goes_round_and_round(db: Connection) -> None:
    db.execute("insert into public.notes (id, body) select g, 'n' from generate_series(10, 34) g")
    passes = [look(db)["passes"] for _ in range(6)]
    assert passes == [0, 0, 1, 1, 1, 2]


@begins_with(prepare, "shadow")
def test_what_verify_some_finds_blocks_the_next_stage(db: Connection) -> None:
    assert look(db)["mismatches"] == 0
    behind_the_mirror(db, "update public.notes_v2 set tag = 'x' where id = 1")
    assert look(db)["mismatches"] == 1
    assert codes(db, "live") == {"open_mismatches"}


def test_verify_some_waits_for_the_backfill(db: Connection) -> None:
    prepare(db, "dualwrite")
    assert look(db)["state"] == "waiting"
    assert rows(db, "select * from crossfade.mismatches") == []


# RLS ----------------------------------------------------------------------------------------------


def check_rls(connection: Connection) -> list[dict[str, Any]]:
    ((answer,),) = connection.execute(
        "select crossfade.check_rls('notes', %s::jsonb)", [json.dumps([ONE, TWO])]
    ).fetchall()
    found: list[dict[str, Any]] = answer["differences"]
    return found


@begins_with(create_notes)
def test_equal_policies_show_every_user_the_same_rows(db: Connection) -> None:
    db.execute("insert into public.notes (body, owner_id) values ('a', %s), ('b', %s)", [ONE, TWO])
    assert check_rls(db) == []
    assert rows(db, "select current_user") == [("postgres",)]


@begins_with(prepare, "shadow")
def test_a_policy_that_shows_more_in_v2_blocks_live(db: Connection) -> None:
    db.execute("insert into public.notes (id, body, owner_id) values (70, 'a', %s)", [ONE])
    db.execute("""create policy "too much" on public.notes_v2 to authenticated using (true)""")
    seen = [d for d in check_rls(db) if d["key"] == {"id": 70}]
    wanted = {"user_id": TWO, "key": {"id": 70}, "visible_in": 2}
    assert {**wanted, "command": "select"} in seen
    assert all(d | wanted == d for d in seen), "they may write what they may see"
    assert "rls_parity" in codes(db, "live")
    db.execute("""drop policy "too much" on public.notes_v2""")
    assert check_rls(db) == []
    assert db.execute("select crossfade.set_stage('notes', 'live', 'test')").fetchone()


@begins_with(create_notes)
def test_check_rls_works_for_the_service_role(db: Connection, connect: Connect) -> None:
    db.execute("insert into public.notes (body, owner_id) values ('a', %s)", [ONE])
    service = connect("service_role")
    assert check_rls(service) == []
    assert service.execute("select current_user").fetchone() == ("service_role",)
