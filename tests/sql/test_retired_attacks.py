"""Stage retired, as its enemies see it: what the view must not open, lose or refuse."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import Shape, blockers, create, grant, register, to_stage

from .conftest import Connect, Connection, begins_with, on_both_ends
from .control import call, one, refused
from .notes_pair import rows
from .test_retired import error_of, posted, stage

pytestmark = on_both_ends

ADA, BOB = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


def made(db: Connection, shape: Shape, wanted: str = "retired") -> None:
    create(db, shape)
    register(db)
    to_stage(db, wanted)


def hints(db: Connection) -> str:
    found = rows(
        db,
        "select b ->> 'hint' from crossfade.pairs p, "
        "crossfade_private.stage_blockers(p, 'retired') b",
    )
    return " ".join(hint for (hint,) in found)


OWNED = "id bigint primary key, owner uuid, body text, secret text"
GUARDED = Shape(
    v1=OWNED,
    v2=OWNED,
    to_v2="a.id, a.owner, a.body, a.secret",
    to_v1="b.id, b.owner, b.body, b.secret",
    after="""alter table public.things enable row level security;
    create policy own on public.things to authenticated using (owner = (select auth.uid()));
    revoke all on public.things, public.things_v2 from authenticated;
    grant select, insert, update, delete on public.things to authenticated""",
)
"""V1 is guarded by policies, V2 by nobody having a right on it."""


@begins_with(made, GUARDED, "complete")
def test_no_hint_opens_a_v2_whose_policies_do_not_hold(db: Connection, connect: Connect) -> None:
    db.execute(f"insert into things_v2 values (1, '{ADA}', 'a', 's'), (2, '{BOB}', 'b', 's')")
    assert set(blockers(db, "retired")) == {"rls_parity"}
    assert "grant" not in hints(db)
    # Policies that mean something else are as good as none.
    db.execute("""alter table things_v2 enable row level security;
      create policy own on things_v2 to authenticated using (owner is not null)""")
    found = blockers(db, "retired")
    assert "differ for authenticated" in found["rls_parity"]
    grant(db)
    with refused("CF005", 409):
        stage(db, "retired")
    db.execute("drop policy own on things_v2; create policy own on things_v2 to authenticated "
               "using (owner = (select auth.uid()))")  # fmt: skip
    assert blockers(db, "retired") == {}
    stage(db, "retired")
    user = connect("authenticated", sub=ADA)
    assert rows(user, "select id from things") == [(1,)]
    assert user.execute("update things set body = 'x'").rowcount == 1


RENAMED = GUARDED.but(
    v2=OWNED.replace("owner", "owner_id"),
    to_v1="b.id, b.owner_id, b.body, b.secret",
    after=GUARDED.after
    + """; alter table public.things_v2 enable row level security;
    create policy mine on public.things_v2 to authenticated using (owner_id = (select auth.uid()))
    """,
)


@begins_with(made, RENAMED, "complete")
def test_policies_that_say_the_same_of_other_names_are_equal_and_others_need_a_word(
    db: Connection,
) -> None:
    assert set(blockers(db, "retired")) == {"rights"}
    grant(db)
    assert blockers(db, "retired") == {}
    db.execute("drop policy mine on things_v2; create policy mine on things_v2 to authenticated "
               "using (owner_id = auth.uid())")  # fmt: skip
    assert set(blockers(db, "retired")) == {"rls_parity"}
    call(db, "ignore_dependents", "things", "{policies of public.things}", "they mean the same")
    assert blockers(db, "retired") == {}
    # V1 without policies, and a V2 that hides rows: V1's clients would miss them.
    call(db, "ignore_dependents", "things", "{}", "again")
    db.execute("alter table things disable row level security")
    assert set(blockers(db, "retired")) == {"rls_parity"}


def test_a_clean_check_speaks_for_policies_that_read_differently(db: Connection) -> None:
    create(
        db,
        GUARDED.but(
            after=GUARDED.after
            + "; alter table public.things_v2 enable row level security; create policy own on "
            "public.things_v2 to authenticated using (auth.uid() = owner); "
            "grant select, insert, update, delete on public.things_v2 to authenticated"
        ),
    )
    db.execute(f"insert into things values (1, '{ADA}', 'a', 's'), (2, '{BOB}', 'b', 's')")
    register(db)
    to_stage(db, "complete")
    assert set(blockers(db, "retired")) == {"rls_parity"}
    assert call(db, "check_rls", "things", [ADA, BOB])["differences"] == []
    assert blockers(db, "retired") == {}


BY_COLUMN = GUARDED.but(
    after="""revoke all on public.things, public.things_v2 from authenticated;
    grant select (id, owner, body), update (body) on public.things to authenticated"""
)


@begins_with(made, BY_COLUMN, "complete")
def test_a_right_on_some_columns_asks_for_none_on_all(db: Connection, connect: Connect) -> None:
    found = blockers(db, "retired")
    assert set(found) == {"column_rights"}
    assert (
        "authenticated may select only some columns of public.things (body, id, owner)"
        in (found["column_rights"])
    )
    assert "on public.things_v2 to" not in hints(db)
    # The owner decides: nothing is kept from them, and this is what they may write.
    db.execute("grant select on things to authenticated; "
               "grant update (body) on things_v2 to authenticated")  # fmt: skip
    assert set(blockers(db, "retired")) == {"rights"}
    grant(db)
    stage(db, "retired")
    db.execute(f"insert into things values (1, '{ADA}', 'a', 's')")
    user = connect("authenticated", sub=ADA)
    # A client that sends what is there already is no other than one that does not.
    for body in ("b", "b", "c"):
        written = user.execute("update things set body = %s returning body", [body])
        assert written.fetchall() == [(body,)]
    assert error_of(user, "update things set secret = 'x'")["code"] == "42501"
    assert error_of(user, "update things_v2 set secret = 'x'")["code"] == "42501"


READABLE = GUARDED.but(
    after="""alter table public.things enable row level security;
    alter table public.things_v2 enable row level security;
    create policy all_see on public.things for select to authenticated using (true);
    create policy all_see on public.things_v2 for select to authenticated using (true);
    create policy own on public.things to authenticated using (owner = (select auth.uid()));
    create policy own on public.things_v2 to authenticated using (owner = (select auth.uid()))"""
)


@begins_with(made, READABLE)
def test_an_upsert_of_a_row_that_its_client_may_only_read_is_refused(
    db: Connection, connect: Connect
) -> None:
    db.execute(f"insert into things values (2, '{BOB}', 'b', 's')")
    user = connect("authenticated", sub=ADA)
    upsert = (
        'INSERT INTO "public"."things"("id", "owner", "body") VALUES '
        f"(2, '{ADA}', 'mine') RETURNING id"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="USING expression"):
        posted(user, "resolution=merge-duplicates", upsert)
    assert posted(user, "resolution=ignore-duplicates", upsert) == []
    assert rows(db, "select body from things_v2") == [("b",)]


SIBLINGS = Shape(
    v1="id bigint primary key, pos integer, label text, is_default boolean",
    v2="id bigint primary key, pos integer, label text, is_default boolean, seen integer",
    to_v2="a.id, a.pos, a.label, a.is_default, o.seen",
    to_v1="b.id, b.pos, b.label, b.is_default",
)
TOUCHING = """
create function public.one_default() returns trigger language plpgsql as $$ begin
  if new.is_default and not old.is_default then
    update public.things_v2 set is_default = false where id <> new.id and is_default; end if;
  return null; end $$;
create function public.renumber() returns trigger language plpgsql as $$ begin
  update public.things_v2 set pos = pos - 1 where pos > old.pos; return null; end $$;
create trigger one_default after update on public.things_v2
  for each row execute function public.one_default();
create trigger renumber after delete on public.things_v2
  for each row execute function public.renumber();
insert into public.things_v2 select g, g, 'old', g = 5 from generate_series(1, 6) g
"""
IN_SAVEPOINT = "do $$ begin begin {}; exception when division_by_zero then null; end; end $$"


@pytest.mark.parametrize("how", ["{}", IN_SAVEPOINT])
@begins_with(made, SIBLINGS)
def test_rows_that_a_trigger_of_the_same_statement_has_changed_are_written_all_the_same(
    db: Connection, how: str
) -> None:
    """A trigger of V2 writes its row's siblings, which come later in the statement."""
    db.execute(TOUCHING)
    db.execute(how.format("update things set is_default = (id = 2), label = 'new'").encode())
    assert rows(db, "select distinct label from things_v2") == [("new",)]
    assert rows(db, "select id from things_v2 where is_default") == [(2,)]
    db.execute(how.format("delete from things where id in (1, 3, 5)").encode())
    assert rows(db, "select id, pos from things_v2 order by 1") == [(2, 1), (4, 2), (6, 3)]
    # What somebody else has changed is still not written over.
    db.execute(how.format("delete from things").encode())
    assert one(db, "select count(*) from things_v2") == 0


TREE = "id bigint primary key, parent bigint references public.things{}, pos integer unique {}"


def test_constraints_are_checked_when_the_statement_ends(db: Connection) -> None:
    """A tree is written and deleted by one statement, and unique values are swapped by one."""
    create(
        db,
        Shape(
            v1=TREE.format("", "deferrable"),
            v2=TREE.format("_v2", "deferrable"),
            to_v2="a.id, a.parent, a.pos",
            to_v1="b.id, b.parent, b.pos",
        ),
    )
    register(db)
    to_stage(db, "complete")
    found = blockers(db, "retired")
    assert set(found) == {"row_order"}
    assert "things_v2_parent_fkey" in found["row_order"]
    db.execute(hints(db).encode())
    assert blockers(db, "retired") == {}
    stage(db, "retired")
    db.execute("insert into things values (2, 1, 1), (1, null, 2), (3, 2, 3)")
    db.execute("update things set pos = 4 - pos")
    assert rows(db, "select id, pos from things order by 1") == [(1, 2), (2, 3), (3, 1)]
    assert error_of(db, "insert into things values (9, 99, 9)")["code"] == "23503"
    assert error_of(db, "insert into things values (9, 1, 1)")["code"] == "23505"
    assert error_of(db, "delete from things where id in (1, 2)")["code"] == "23503"
    assert db.execute("delete from things where id in (1, 2, 3)").rowcount == 3
    stage(db, "complete")
    assert rows(db, "select proname from pg_proc where proname = 'view_things_order'") == []


ALWAYS = "id bigint generated always as identity primary key, body text"


@begins_with(made, Shape(v1=ALWAYS, v2=ALWAYS, to_v2="a.id, a.body", to_v1="b.id, b.body"))
def test_nobody_chooses_a_key_that_is_always_given(db: Connection) -> None:
    assert rows(db, "insert into things (body) values ('a'), ('b') returning body") == [
        ("a",), ("b",)]  # fmt: skip
    db.execute("insert into things default values")
    told = error_of(db, "insert into things (id, body) values (1000, 'x')")
    assert (told["code"], told["message"]) == (
        "428C9",
        'cannot insert a non-DEFAULT value into column "id"',
    )
    told = error_of(db, "update things set id = id + 1000")
    assert (told["code"], told["message"]) == (
        "428C9",
        'column "id" can only be updated to DEFAULT',
    )
    assert db.execute("update things set body = 'c'").rowcount == 3
    assert one(db, "select count(*) from things_v2 where id < 1000 and body = 'c'") == 3


def test_a_key_that_could_be_changed_can_be_changed(db: Connection) -> None:
    made(
        db,
        Shape(
            v1=ALWAYS.replace("always", "by default"),
            v2=ALWAYS,
            to_v2="a.id, a.body",
            to_v1="b.id, b.body",
        ),
        "complete",
    )
    assert set(blockers(db, "retired")) == {"identity", "rights"}
    db.execute("alter table public.things_v2 alter column id set generated by default")
    grant(db)
    stage(db, "retired")
    db.execute("insert into things (id, body) values (1, 'a')")
    db.execute("update things set id = 2")
    assert rows(db, "select id from things_v2") == [(2,)]


def test_a_column_may_have_any_name(db: Connection) -> None:
    odd = '"we""ird %s {piece} $body$ \'q\'"'
    columns = f"id bigint primary key, {odd} text default 'd'"
    db.execute(
        f"""
        create table public.things ({columns}); create table public.things_v2 ({columns});
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable set search_path = ''
        begin atomic select a.id, a.{odd}; end;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable set search_path = ''
        begin atomic select b.id, b.{odd}; end""".encode()
    )
    register(db)
    to_stage(db, "retired")
    db.execute(f"insert into things (id, {odd}) values (1, 'a'), (2, default)".encode())
    db.execute(f"update things set {odd} = 'b' where id = 1".encode())
    assert rows(db, "select * from things_v2 order by 1") == [(1, "b"), (2, "d")]


WITH_TRIGGERS = Shape(
    before="create table public.profiles (id bigint);"
    "create function public.sign_up() returns trigger language plpgsql as 'begin "
    "insert into public.profiles values (new.id); return null; end';"
    "create function public.touch() returns trigger language plpgsql as 'begin "
    "new.body := lower(new.body); return new; end'",
    after="create trigger sign_up after insert on public.things "
    "for each row execute function public.sign_up();"
    "create trigger touch before insert or update on public.things "
    "for each row execute function public.touch();"
    "create trigger touch_v2 before insert or update on public.things_v2 "
    "for each row execute function public.touch()",
)


@begins_with(made, WITH_TRIGGERS, "rampdown")
def test_what_only_v1s_triggers_did_is_not_forgotten(db: Connection) -> None:
    """A trigger that V2 has as well, by name or by function, is no loss."""
    found = blockers(db, "complete")
    assert set(found) == {"v1_triggers"}
    assert "trigger sign_up on public.things" in found["v1_triggers"]
    assert "touch" not in found["v1_triggers"]
    with refused("CF005", 409):
        stage(db, "complete")
    with db.transaction(force_rollback=True):
        call(db, "ignore_dependents", "things", '{"sign_up on public.things"}', "not wanted")
        call(db, "set_stage", "things", "complete", "test", confirm=True)
        assert blockers(db, "retired") == {}
        call(db, "ignore_dependents", "things", "{}", "wanted after all")
        assert "trigger sign_up on public.things" in blockers(db, "retired")["v1_bound"]
    with db.transaction(force_rollback=True):
        db.execute("alter table things disable trigger sign_up")
        assert blockers(db, "complete") == {}
    db.execute("create trigger sign_up after insert on public.things_v2 "
               "for each row execute function public.sign_up()")  # fmt: skip
    assert blockers(db, "complete") == {}
    call(db, "set_stage", "things", "complete", "test", confirm=True)
    assert blockers(db, "retired") == {}
    stage(db, "retired")
    db.execute("insert into things values (1, 'A')")
    assert rows(db, "select * from profiles") == [(1,)]
    assert rows(db, "select body from things") == [("a",)]
