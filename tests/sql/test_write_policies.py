"""Nobody may change through one table's policies what those of the other one forbid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Connect, Connection
from .control import call
from .notes_pair import REGISTER, TABLES, rows
from .test_stages import prepare

ADA = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
V2 = 'drop policy "own notes" on public.notes_v2; '
OWN = "owner_id = (select auth.uid())"


def warnings(db: Connection) -> list[str]:
    found: list[str] = db.execute(REGISTER, ["{}"]).fetchall()[0][0]["warnings"]
    planned = call(db, "plan_pair", "notes")["warnings"]
    assert planned == found
    return [text for text in found if "polic" in text or "row-level" in text or "role " in text]


DIFFERING = {
    # What V2 has instead of V1's policy; the commands that the warnings name.
    "everybody may delete": (
        f'create policy "own notes" on public.notes_v2 to authenticated using ({OWN}); '
        'create policy "all" on public.notes_v2 for delete to authenticated using (true)',
        {"delete"}),
    "everybody may insert": (
        f"create policy a on public.notes_v2 for select to authenticated using ({OWN}); "
        f"create policy b on public.notes_v2 for update to authenticated using ({OWN}) "
        f"with check ({OWN}); "
        f"create policy c on public.notes_v2 for delete to authenticated using ({OWN}); "
        "create policy d on public.notes_v2 for insert to authenticated with check (true)",
        {"insert"}),
    "no check of new rows": (
        f'create policy "own notes" on public.notes_v2 to authenticated using ({OWN}) '
        "with check (true)",
        {"insert", "update"}),
    "restrictive instead of permissive": (
        f'create policy "own notes" on public.notes_v2 as restrictive to authenticated '
        f"using ({OWN}) with check ({OWN})",
        {"insert", "update", "delete"}),
    "for everybody": (
        f'create policy "own notes" on public.notes_v2 using ({OWN}) with check ({OWN})',
        {"insert", "update", "delete"}),
    "none": ("", {"insert", "update", "delete"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIFFERING)
def test_policies_that_differ_are_warned_of_by_command(scratch: Connection, kind: str) -> None:
    statement, commands = DIFFERING[kind]
    scratch.execute(TABLES)
    scratch.execute(V2 + statement)
    found = warnings(scratch)
    assert found != []
    assert {text.split(" differ for ")[1].split(" by ")[0] for text in found} == commands
    assert all("crossfade pair check-rls notes --user ID" in text for text in found)


SAME = {
    "equal": "",
    "one for each command": V2
    + f"create policy a on public.notes_v2 for select to authenticated using ({OWN}); "
    f"create policy b on public.notes_v2 for insert to authenticated with check ({OWN}); "
    f"create policy c on public.notes_v2 for update to authenticated using ({OWN}); "
    f"create policy d on public.notes_v2 for delete to authenticated using ({OWN})",
    "other names and visibility": V2
    + f"create policy x on public.notes_v2 to authenticated using ({OWN}) with check ({OWN}); "
    "create policy y on public.notes_v2 for select to authenticated using (true)",
}


@pytest.mark.parametrize("kind", SAME)
def test_policies_that_let_the_same_people_write_are_not(scratch: Connection, kind: str) -> None:
    scratch.execute(TABLES)
    if SAME[kind]:
        scratch.execute(SAME[kind])
    assert warnings(scratch) == []


def test_renamed_columns_and_tables_are_not_a_difference(scratch: Connection) -> None:
    scratch.execute("""
        create table public.things (id bigint primary key, "Owner" uuid, "order" text,
          note text);
        create table public.things_v2 (key bigint primary key, owned_by uuid, "select" text,
          note text);
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = pg_catalog, pg_temp
        as $$ select a.id, a."Owner", a."order", a.note $$;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = pg_catalog, pg_temp
        as $$ select b.key, b.owned_by, b."select", b.note $$;
        create table public.members (id bigint, who uuid);
        alter table public.things enable row level security;
        alter table public.things_v2 enable row level security;
        create policy a on public.things using ("Owner" = auth.uid() and "order" <> 'Owner id'
          or exists (select from public.members m where m.id = things.id));
        create policy a on public.things_v2 using (owned_by = auth.uid() and "select" <> 'Owner id'
          or exists (select from public.members m where m.id = things_v2.key))""")
    names = [f"public.things{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
    found = call(scratch, "register_pair", "things", *names, options={"v2_key": ["key"]})
    assert [text for text in found["warnings"] if "polic" in text] == []
    scratch.execute("""alter policy a on public.things_v2 using (owned_by = auth.uid()
        and "select" <> 'owned_by key' or exists (
          select from public.members m where m.id = things_v2.key))""")
    again = call(scratch, "register_pair", "things", *names, options={"v2_key": ["key"]})
    assert len([text for text in again["warnings"] if "polic" in text]) == 3


def test_row_level_security_on_one_table_only_is_warned_of_and_the_way_out_runs(
    scratch: Connection,
) -> None:
    scratch.execute(TABLES)
    scratch.execute("alter table public.notes_v2 disable row level security")
    (warning,) = warnings(scratch)
    assert warning.startswith(
        "row-level security is on for public.notes and off for public.notes_v2"
    )
    scratch.execute(warning.split("; run: ")[1])
    assert warnings(scratch) == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("grant insert on public.notes_v2 to anon",
         "role anon may insert public.notes_v2 and not public.notes"),
        ("revoke delete on public.notes_v2 from authenticated",
         "role authenticated may delete public.notes and not public.notes_v2"),
        ("revoke update on public.notes from authenticated; "
         "grant update (body) on public.notes to authenticated", None),
    ],
)  # fmt: skip
def test_grants_that_differ_are_warned_of(
    scratch: Connection, statement: str, named: str | None
) -> None:
    scratch.execute(TABLES)
    scratch.execute(statement)
    found = warnings(scratch)
    assert [text.split(";")[0] for text in found] == ([named] if named else [])


# check_rls asks the policies themselves -----------------------------------------------------------


def check(db: Connection, *users: str) -> list[dict[str, Any]]:
    ((answer,),) = db.execute(
        "select crossfade.check_rls('notes', %s::jsonb)", [json.dumps(users)]
    ).fetchall()
    found: list[dict[str, Any]] = answer["differences"]
    return found


@pytest.fixture
def two_notes(db: Connection) -> Connection:
    """Shadow; note 1 is Ada's, note 2 is Bob's, both in both tables."""
    prepare(db, "shadow")
    db.execute("delete from public.notes")
    db.execute(
        "insert into public.notes (id, body, owner_id) values (1, 'a', %s), (2, 'b', %s)",
        [ADA, BOB],
    )
    assert check(db, ADA, BOB) == []
    return db


WIDER = {
    # A policy of V2's more; what Ada may do in V2 only, and with which note.
    "update": ("for update to authenticated using (true) with check (owner_id = auth.uid())",
               [("update", 2)]),
    "update to": (f"for update to authenticated using ({OWN}) with check (true)",
                  [("update to", 2)]),
    "insert": ("for insert to authenticated with check (true)", [("insert", 2)]),
    "delete": ("for delete to authenticated using (true)", [("delete", 2)]),
    "select": ("for select to authenticated using (true)", [("select", 2)]),
    "nothing more": (f"for delete to authenticated using ({OWN})", []),
    "for another role": ("for delete to service_role using (true)", []),
}  # fmt: skip


@pytest.mark.parametrize("kind", WIDER)
def test_what_a_user_may_write_in_one_table_only_is_found(two_notes: Connection, kind: str) -> None:
    policy, expected = WIDER[kind]
    two_notes.execute(f"create policy more on public.notes_v2 {policy}")
    found = [d for d in check(two_notes, ADA) if d["user_id"] == ADA]
    assert [(d["command"], d["key"]["id"], d["visible_in"]) for d in found] == [
        (command, note, 2) for command, note in expected
    ]
    blockers = rows(
        two_notes,
        "select b ->> 'code' from crossfade.pairs p, crossfade_private.stage_blockers(p, 'live') b",
    )
    assert (("rls_parity",) in blockers) is bool(expected)


def test_a_policy_that_forbids_more_in_v2_is_found_as_well(two_notes: Connection) -> None:
    two_notes.execute(
        "create policy less on public.notes_v2 as restrictive for delete using (false)"
    )
    found = check(two_notes, ADA)
    assert [(d["command"], d["key"]["id"], d["visible_in"]) for d in found] == [("delete", 1, 1)]


def test_who_has_not_signed_in_is_asked_as_well(two_notes: Connection) -> None:
    two_notes.execute(
        "grant select, update on public.notes_v2 to anon; "
        "create policy open on public.notes_v2 for update to anon using (true)"
    )
    found = check(two_notes)
    assert {(d["user_id"], d["command"]) for d in found} == {
        ("anon", "update"),
        ("anon", "update to"),
    }
    assert {d["key"]["id"] for d in found} == {1, 2}


def test_a_right_that_one_table_grants_is_found(two_notes: Connection) -> None:
    two_notes.execute("revoke delete on public.notes from authenticated")
    assert [(d["command"], d["key"]["id"]) for d in check(two_notes, ADA)] == [("delete", 1)]


def test_tables_without_row_level_security_are_asked_as_they_are(two_notes: Connection) -> None:
    two_notes.execute("alter table public.notes_v2 disable row level security")
    found = {(d["command"], d["key"]["id"]) for d in check(two_notes, ADA)}
    assert found == {(c, 2) for c in ("select", "insert", "update", "update to", "delete")}


def test_all_pages_are_read_and_the_role_is_given_back(
    two_notes: Connection, connect: Connect
) -> None:
    two_notes.execute(
        "insert into public.notes (id, body, owner_id) select g, 'n', %s "
        "from generate_series(10, 2500) g",
        [ADA],
    )
    two_notes.execute("create policy more on public.notes_v2 for delete to authenticated "
                      "using (id = 2499)")  # fmt: skip
    service = connect("service_role")
    assert [d["key"] for d in check(service, BOB)] == [{"id": 2499}]
    assert rows(service, "select current_user, current_setting('request.jwt.claims', true)") == [
        ("service_role", "")
    ]
