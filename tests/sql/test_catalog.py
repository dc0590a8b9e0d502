"""What an owner sees before anything is switched on: tables, random keys, the plan of a pair."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Connect, Connection
from .control import call, one, refused
from .notes_pair import create_notes

OWN_TRIGGER = """
create function public.shout() returns trigger language plpgsql as $$
begin
  raise exception 'a trigger of the owner ran';
end $$;
create trigger "Shout" before insert on public.notes_v2
  for each row execute function public.shout();
"""


def digest(db: Connection) -> list[Any]:
    """Both tables and everything of the pair, to see that nothing was changed."""
    return db.execute(
        "select (select jsonb_agg(n) from public.notes n), (select jsonb_agg(n) from"
        " public.notes_v2 n), (select jsonb_agg(p) from crossfade.pairs p),"
        " crossfade.flags_version()"
    ).fetchall()


def test_a_table_is_described_as_the_catalog_has_it(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    scratch.execute(OWN_TRIGGER)
    found = call(scratch, "describe_table", "public.notes_v2")
    columns = {column["name"]: column for column in found["columns"]}
    assert list(columns) == ["id", "owner_id", "parts", "tag", "pinned", "part_count"]
    assert columns["id"]["default"] == "nextval('public.notes_id'::regclass)"
    assert columns["part_count"]["generated"] == "jsonb_array_length(parts)"
    assert (columns["tag"]["checked"], columns["pinned"]["not_null"]) == (True, True)
    assert (found["key"], found["pair"], found["row_security"]) == (["id"], "notes", True)
    assert [trigger["name"] for trigger in found["triggers"]] == ["Shout"], (
        "ours are not the owner's"
    )
    assert [policy["name"] for policy in found["policies"]] == ["own notes"]
    assert found["sample"] == []


def test_a_sample_is_what_the_api_may_read(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    scratch.execute(
        "insert into public.notes values (2, null, 'b'), (1, null, 'a'), (3, null, 'c')"
    )
    sample = call(scratch, "describe_table", "notes", 2)["sample"]
    assert [row["body"] for row in sample] == ["a", "b"]
    scratch.execute("revoke select on public.notes from service_role")
    assert call(scratch, "describe_table", "notes", 2)["sample"] == []


def test_what_keeps_a_table_from_being_mirrored_is_said(scratch: Connection) -> None:
    scratch.execute(
        "create table public.keyless (a integer); create view public.seen as select 1 a"
    )
    assert "no primary key" in call(scratch, "describe_table", "keyless")["problems"][0]
    assert "a view" in call(scratch, "describe_table", "public.seen")["problems"][0]


@pytest.mark.parametrize("name", ["nothing", "public.nothing", 'public."x"; drop', "a.b.c", ""])
def test_an_unknown_table_names_those_there_are(scratch: Connection, name: str) -> None:
    scratch.execute("create table public.notes (id integer)")
    with refused("CF012", 404) as refusal:
        call(scratch, "describe_table", name)
    if "nothing" in name:
        assert refusal.detail["known"] == ["public.notes"]


def test_only_the_service_role_may_look(connect: Connect, db: Connection) -> None:
    create_notes(db, mirror=False)
    for role, allowed in {"service_role": True, "authenticated": False, "anon": False}.items():
        for query in (
            "select crossfade.describe_table('notes')",
            "select crossfade.plan_pair('notes')",
            "select crossfade.sample_keys('notes')",
        ):
            if allowed:
                assert one(connect(role), query)
            else:
                with pytest.raises(Exception, match="permission denied"):
                    connect(role).execute(query)


def test_sampled_keys_come_from_all_over_the_table(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    assert call(scratch, "sample_keys", "notes", 1, 5)["keys"] == []
    scratch.execute("insert into public.notes (body) select 'x' from generate_series(1, 4000)")
    scratch.execute("analyze public.notes")
    keys = [key["id"] for key in call(scratch, "sample_keys", "notes", 1, 50)["keys"]]
    assert len(set(keys)) == 50
    assert min(keys) < 1500
    assert max(keys) > 2500
    with refused("CF012", 400):
        call(scratch, "sample_keys", "notes", 3, 5)


def test_a_violation_shows_both_values(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    scratch.execute("""
        create or replace function public.notes_to_v1(new_v2 public.notes_v2, old_v1 public.notes)
        returns setof public.notes language sql stable as $$
          select new_v2.id, new_v2.owner_id, upper(new_v2.parts ->> 0), new_v2.tag
        $$;
        insert into public.notes values (1, null, 'abc', 'fine'),
          (2, null, 'ABC', 'longer than twenty letters')""")
    first, second = call(scratch, "check_conversion", "notes", 1)["violations"]
    assert (first["law"], first["stored"], first["converted"]) == (
        1, {"body": "abc"}, {"body": "ABC"},
    )  # fmt: skip
    assert (second["law"], second["columns"]) == (7, ["tag_is_short"])
    assert second["converted"]["parts"] == ["ABC"]


def test_the_plan_says_what_will_run_and_changes_nothing(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    scratch.execute(OWN_TRIGGER)
    scratch.execute("insert into public.notes (body) select 'x' from generate_series(1, 500)")
    before = digest(scratch)
    plan = call(scratch, "plan_pair", "notes", 300)
    assert digest(scratch) == before
    assert [step["step"] for step in plan["steps"]] == [
        "dualwrite", "backfill", "shadow", "verify", "live", "rampdown", "complete",
        "retired",
    ]  # fmt: skip
    assert (plan["measured"]["rows"], plan["measured"]["error"]) == (300, None)
    assert plan["measured"]["rows_per_s"] > 0
    assert "insert into public.notes_v2" in plan["sql"]["backfill"]
    assert all("crossfade" in trigger for trigger in plan["sql"]["triggers"])
    assert len(plan["sql"]["triggers"]) > 4
    one_, two = plan["tables"]
    assert (one_["table"], two["table"]) == ("public.notes", "public.notes_v2")
    assert [trigger["name"] for trigger in two["triggers"]] == ["Shout"]
    assert call(scratch, "plan_pair", "notes", 300)["measured"]["rows"] == 300, "twice in a session"


def test_a_converter_that_raises_is_named_in_the_plan(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    scratch.execute("insert into public.notes (body) values ('x')")
    scratch.execute("""
        create or replace function public.notes_to_v2(new_v1 public.notes, old_v2 public.notes_v2)
        returns setof public.notes_v2 language sql stable as $$
          select new_v1.id, null::uuid, to_jsonb(new_v1.body::integer), null, false, 0
        $$""")
    measured = call(scratch, "plan_pair", "notes")["measured"]
    assert measured["rows"] == 0
    assert measured["error"].startswith("22P02: ")


def test_the_plan_of_every_step_can_be_json(scratch: Connection) -> None:
    create_notes(scratch, mirror=False)
    assert json.dumps(call(scratch, "plan_pair", "notes"))
    with refused("CF001", 404):
        call(scratch, "plan_pair", "nothing")
