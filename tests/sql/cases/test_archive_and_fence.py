"""An archive and a kill switch stop the clients of one table, and nobody else's statements.

A delete of a parent belongs to whoever deletes the parent: it cascades through both tables whatever
is closed. A trigger that still writes the archive is named before the stage is reached, and refused
after it.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    Shape,
    backfill,
    blockers,
    both,
    create,
    register,
    settled,
    to_stage,
)
from tests.sql.conftest import Connect, Connection, begins_with, on_both_ends
from tests.sql.control import call, one, refused
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures

pytestmark = on_both_ends

KILL = "disable_v2_messages"
CHILD = (
    "id bigint primary key, body text, "
    "parent bigint {default} references public.parents on delete {delete} on update {update}"
)


def family(delete: str, update: str = "cascade") -> Shape:
    """Both tables point at a parent that is no pair."""
    default = "default 0" if "default" in delete + update else ""
    child = CHILD.format(default=default, delete=delete, update=update)
    return Shape(
        v1=child,
        v2=f"{child}, pinned boolean",
        to_v2="a.id, a.body, a.parent, o.pinned",
        to_v1="b.id, b.body, b.parent",
        before="create table public.parents (id bigint primary key); "
        "insert into public.parents select g from generate_series(0, 9) g; "
        "grant all on public.parents to authenticated, service_role",
    )


def filled(db: Connection, shape: Shape, stage: str) -> None:
    create(db, shape)
    db.execute("insert into public.things select g, 'n', 1 + g % 4 from generate_series(1, 20) g")
    enter(db, stage)


def enter(db: Connection, stage: str) -> None:
    register(db)
    to_stage(db, stage)
    if stage == "dualwrite":
        backfill(db)


def some(db: Connection, count: int, stage: str, shape: Shape = PLAIN) -> None:
    """So many rows in a stage."""
    create(db, shape)
    db.execute("insert into public.things select g, 'n' from generate_series(1, %s) g", [count])
    enter(db, stage)


ACTIONS = {
    # What happens to the parent, what the foreign key does, and the rows that are left of parent 1.
    "delete, cascade": ("delete from public.parents where id = 1", "cascade", "cascade"),
    "delete, set null": ("delete from public.parents where id = 1", "set null", "cascade"),
    "delete, set default": ("delete from public.parents where id = 1", "set default", "cascade"),
    "new key, cascade": ("update public.parents set id = 30 where id = 1", "cascade", "cascade"),
    "new key, set null": ("update public.parents set id = 30 where id = 1", "cascade", "set null"),
    "delete of all": ("delete from public.parents where id > 0", "cascade", "cascade"),
}


@pytest.mark.parametrize("kind", ACTIONS)
def test_a_kill_stops_no_referential_action(db: Connection, connect: Connect, kind: str) -> None:
    statement, delete, update = ACTIONS[kind]
    filled(db, family(delete, update), "dualwrite")
    call(db, "engage_kill_switch", KILL, "incident")
    for role in ("authenticated", "service_role", "anon"):
        if role == "anon":
            db.execute("grant all on public.parents to anon")
        user = connect(role)
        user.execute("begin")
        assert user.execute(statement).rowcount >= 1
        user.execute("rollback")
    user = connect("authenticated")
    user.execute(statement)
    left = settled(db, "id, body, parent")
    assert {parent for _, _, parent in left} == {
        "delete, cascade": {2, 3, 4},
        "delete, set null": {None, 2, 3, 4},
        "delete, set default": {0, 2, 3, 4},
        "new key, cascade": {30, 2, 3, 4},
        "new key, set null": {None, 2, 3, 4},
        "delete of all": set(),
    }[kind]
    # The fence itself still stands.
    with refused("CF_FENCED", 409):
        user.execute("insert into public.things_v2 (id, body) values (100, 'v2')")
    user.execute("insert into public.things (id, body) values (100, 'v1')")
    settled(db, "id, body, parent")


@pytest.mark.parametrize("stage", ["off", "shadow", "live", "rampdown"])
def test_a_kill_stops_no_delete_of_a_parent_in_any_stage(
    db: Connection, connect: Connect, stage: str
) -> None:
    shape = family("cascade")
    if stage == "off":
        create(db, shape)
        register(db)
        db.execute("insert into public.things values (1, 'n', 1)")
    else:
        filled(db, shape, stage)
    call(db, "engage_kill_switch", KILL, "incident")
    user = connect("authenticated")
    assert user.execute("delete from public.parents where id = 9").rowcount == 1, "it has no child"
    assert user.execute("delete from public.parents where id = 1").rowcount == 1
    assert one(db, "select count(*) from public.things where parent = 1") == 0
    assert one(db, "select count(*) from public.things_v2 where parent = 1") == 0
    if stage != "off":
        settled(db, "id, body, parent")


@pytest.mark.parametrize("kind", ACTIONS)
def test_an_archive_stops_no_referential_action(
    db: Connection, connect: Connect, kind: str
) -> None:
    statement, delete, update = ACTIONS[kind]
    filled(db, family(delete, update), "complete")
    user = connect("authenticated")
    assert user.execute(statement).rowcount >= 1
    # Both tables point at the parent, so both follow it.
    both(db, "id, parent")
    with refused("CF_ARCHIVED", 409):
        user.execute("delete from public.things where id = 2")
    user.execute("insert into public.things_v2 (id, body) values (100, 'v2')")
    assert one(db, "select count(*) from public.things where id = 100") == 0


@pytest.mark.parametrize("both_point", [True, False])
def test_a_cascade_through_another_table_reaches_the_archive(
    db: Connection, connect: Connect, both_point: bool
) -> None:
    shape = family("cascade")
    if not both_point:
        shape = shape.but(v2="id bigint primary key, body text, parent bigint, pinned boolean")
    shape = shape.but(
        before=shape.before + "; create table public.grandparents (id bigint primary key); "
        "insert into public.grandparents values (1); "
        "alter table public.parents add grandparent bigint references public.grandparents "
        "on delete cascade; update public.parents set grandparent = 1 where id = 1; "
        "grant all on public.grandparents to authenticated"
    )
    filled(db, shape, "complete")
    connect("authenticated").execute("delete from public.grandparents")
    assert one(db, "select count(*) from public.things where parent = 1") == 0
    left = one(db, "select count(*) from public.things_v2 where parent = 1")
    assert left == (0 if both_point else 5)


# Who is stopped -----------------------------------------------------------------------------------

DIRECT = {
    "insert": "insert into {t} (id, body) values (100, 'x')",
    "insert of many": "insert into {t} (id, body) select g, 'x' from generate_series(100, 130) g",
    "update": "update {t} set body = 'x' where id = 1",
    "update of nothing": "update {t} set body = 'x' where false",
    "delete": "delete from {t} where id = 1",
    "upsert": "insert into {t} (id, body) values (1, 'x') "
    "on conflict (id) do update set body = excluded.body",
    "upsert that does nothing": "insert into {t} (id, body) values (1, 'x') on conflict do nothing",
    "merge": "merge into {t} t using (values (1), (100)) s (id) on t.id = s.id "
    "when matched then update set body = 'x' when not matched then insert (id) values (s.id)",
    "cte": "with a as (update {t} set body = 'x' where id = 1 returning id) select count(*) from a",
    "cte beside a write of another table": "with a as (delete from {t} where id = 1) "
    "insert into public.other values (1)",
    "through a view": "update {t}_view set body = 'x' where id = 1",
    "through a rule": "insert into public.ruled values (100, 'x')",
    "in a function": "select public.write_{n}()",
    "in a definer function": "select public.write_as_owner_{n}()",
    "in dynamic SQL": "do $$ begin execute 'delete from {t} where id = 1'; end $$",
    "prepared": "prepare w{n} as delete from {t} where id = $1; execute w{n}(1)",
}
DOORS = """
create table public.other (id bigint);
create table public.ruled (id bigint, body text);
create rule elsewhere as on insert to public.ruled do instead
  insert into public.{t} (id, body) values (new.id, new.body);
create view public.{t}_view with (security_invoker = true) as select * from public.{t};
create function public.write_{t}() returns void language plpgsql
as $$ begin delete from public.{t} where id = 1; end $$;
create function public.write_as_owner_{t}() returns void language plpgsql security definer
as $$ begin delete from public.{t} where id = 1; end $$;
grant all on public.other, public.ruled, public.{t}_view to authenticated
"""


def with_doors(db: Connection, target: str, stage: str) -> None:
    """Five rows in a stage, and more ways into one table than its name."""
    some(db, 5, stage)
    db.execute(DOORS.format(t=target))


def test_every_way_for_a_client_into_v2_is_fenced(db: Connection, connect: Connect) -> None:
    with_doors(db, "things_v2", "dualwrite")
    call(db, "engage_kill_switch", KILL, "incident")
    before = settled(db)
    for kind, statement in DIRECT.items():
        user = connect("authenticated")
        with pytest.raises(psycopg.Error) as caught:
            user.execute(statement.format(t="public.things_v2", n="things_v2"))
        assert "CF_FENCED" in (caught.value.diag.message_detail or ""), (kind, caught.value)
        user.close()
    with pytest.raises(psycopg.Error) as caught:
        copy_into(connect("authenticated"), "public.things_v2")
    assert "CF_FENCED" in (caught.value.diag.message_detail or "")
    assert settled(db) == before
    db.execute("update public.things_v2 set body = 'by the owner' where id = 1")
    call(db, "release_kill_switch", KILL, "over")
    connect("authenticated").execute("update public.things_v2 set body = 'x' where id = 2")
    assert settled(db)[:2] == [(1, "by the owner"), (2, "x")]


def copy_into(db: Connection, table: str) -> None:
    with db.cursor().copy(f"copy {table} (id, body) from stdin") as copy:
        copy.write_row((200, "copied"))


def test_every_way_for_a_client_into_the_archive_is_refused(
    db: Connection, connect: Connect
) -> None:
    with_doors(db, "things", "complete")
    before = both(db)
    for role in ("authenticated", None):
        for kind, statement in DIRECT.items():
            user = connect(role)
            with pytest.raises(psycopg.Error) as caught:
                user.execute(statement.format(t="public.things", n="things"))
            assert "CF_ARCHIVED" in (caught.value.diag.message_detail or ""), (kind, caught.value)
            user.close()
    with pytest.raises(psycopg.Error):
        copy_into(connect("authenticated"), "public.things")
    with refused("CF_ARCHIVED", 409):
        db.execute("truncate public.things")
    assert both(db) == before


@pytest.mark.parametrize("write", ["insert", "update", "delete", "upsert"])
@begins_with(some, 1, "dualwrite")
def test_a_kill_stops_no_trigger_of_another_table(
    db: Connection, connect: Connect, write: str
) -> None:
    statement = {
        "insert": "insert into public.things_v2 (id, body) values (new.id, 'by a trigger')",
        "update": "update public.things_v2 set body = 'by a trigger' where id = new.id",
        "delete": "delete from public.things_v2 where id = new.id",
        "upsert": "insert into public.things_v2 (id, body) values (new.id, 'by a trigger') "
        "on conflict (id) do update set body = excluded.body",
    }[write]
    db.execute(f"""
        create table public.orders (id bigint);
        create function public.on_order() returns trigger language plpgsql security definer
        as $$ begin {statement}; return null; end $$;
        create trigger on_order after insert on public.orders
        for each row execute function public.on_order();
        grant insert on public.orders to authenticated
    """)
    call(db, "engage_kill_switch", KILL, "incident")
    key = 2 if write == "insert" else 1
    connect("authenticated").execute(f"insert into public.orders values ({key})")
    assert dict(settled(db)) == {
        "insert": {1: "n", 2: "by a trigger"}, "update": {1: "by a trigger"}, "delete": {},
        "upsert": {1: "by a trigger"},
    }[write]  # fmt: skip


# The end of V1's writes ---------------------------------------------------------------------------

SIGNED_UP = PLAIN.but(after="create table public.signups (id bigint primary key, name text)")
WRITER = """
create function public.handle_new_user() returns trigger language {language}
{more} as $$ {body} $$;
create trigger on_signup after insert on public.signups for each row
execute function public.handle_new_user()
"""
INSERT = "begin insert into public.things (id, body) values (new.id, 'new'); return null; end"
WRITERS = {
    "insert": ("plpgsql", "security definer set search_path = ''", INSERT),
    "by the search path": (
        "plpgsql", "set search_path = public",
        "begin insert into things (id, body) values (new.id, 'new'); return null; end"),
    "quoted, over two lines": (
        "plpgsql", "",
        'begin insert\ninto "public"\n . "things" (id, body) values (new.id, $a$new$a$); '
        "return null; end"),
    "capitals": (
        "plpgsql", "", "BEGIN INSERT INTO PUBLIC.THINGS (ID, BODY) VALUES (NEW.ID, 'new'); "
        "RETURN NULL; END"),
    "update": (
        "plpgsql", "", "begin update public.things set body = 'new' where id = new.id; "
        "return null; end"),
    "delete": (
        "plpgsql", "", "begin delete from public.things where id = new.id; return null; end"),
    "upsert": (
        "plpgsql", "", "begin insert into public.things (id, body) values (new.id, 'new') "
        "on conflict (id) do update set body = excluded.body; return null; end"),
    "merge": (
        "plpgsql", "", "begin merge into public.things t using (select new.id as id) s "
        "on t.id = s.id when matched then update set body = 'new' "
        "when not matched then insert (id, body) values (s.id, 'new'); return null; end"),
    "in a function that it calls": (
        "plpgsql", "", "begin perform public.write_profile(new.id); return null; end"),
}  # fmt: skip
CALLED = """
create function public.write_profile(id bigint) returns void language sql
begin atomic insert into public.things (id, body) values (write_profile.id, 'new'); end
"""


@pytest.mark.parametrize("kind", WRITERS)
@begins_with(some, 0, "rampdown", SIGNED_UP)
def test_a_trigger_that_writes_v1_is_named_before_it_becomes_an_archive(
    db: Connection, kind: str
) -> None:
    language, more, body = WRITERS[kind]
    if "calls" in kind:
        db.execute(CALLED)
    db.execute(WRITER.format(language=language, more=more, body=body))
    found = blockers(db, "complete")
    named = " ".join(found.get(code, "") for code in ("v1_writers", "v1_dependents"))
    assert "handle_new_user" in named or "write_profile" in named, found
    with refused("CF005", 409):
        call(db, "set_stage", "things", "complete", "test", True)
    # It works on as before, and mended it is in nobody's way.
    db.execute("insert into public.signups values (1, 'a')")
    settled(db)
    db.execute("drop function public.handle_new_user cascade")
    db.execute("drop function if exists public.write_profile")
    assert blockers(db, "complete").keys() & {"v1_writers", "v1_dependents"} == set()


HIDDEN = {
    "insert": "execute format('insert into %I.%I (id, body) values ($1, ''new'')', "
    "'public', 'thin' || 'gs') using new.id",
    "update": "execute 'update public.thin' || 'gs set body = ''changed in V1 only'' where true'",
    "delete": "execute 'delete from public.thin' || 'gs where true'",
    "truncate": "execute 'truncate public.thin' || 'gs'",
}


@pytest.mark.parametrize("rows_or_statement", ["row", "statement"])
@pytest.mark.parametrize("kind", HIDDEN)
@begins_with(some, 5, "rampdown", SIGNED_UP)
def test_a_trigger_that_nobody_could_see_is_refused_and_stores_nothing_in_one_table(
    db: Connection, connect: Connect, kind: str, rows_or_statement: str
) -> None:
    body = HIDDEN[kind] if rows_or_statement == "row" else HIDDEN[kind].replace("new.id", "7")
    db.execute(f"""
        create function public.hidden() returns trigger language plpgsql security definer
        as $$ begin {body}; return null; end $$;
        create trigger on_signup after insert on public.signups
        for each {rows_or_statement} execute function public.hidden();
        grant all on public.signups to authenticated
    """)
    call(db, "set_stage", "things", "complete", "test", True)
    before = both(db)
    for session in (db, connect("authenticated")):
        with refused("CF_ARCHIVED", 409):
            session.execute("insert into public.signups values (7, 'a')")
    assert one(db, "select count(*) from public.signups") == 0
    assert both(db) == before
    assert failures(db) == []


def test_a_trigger_of_v2_that_writes_the_archive_is_refused(db: Connection) -> None:
    create(db, PLAIN)
    db.execute("insert into public.things values (1, 'n')")
    register(db)
    to_stage(db, "complete")
    db.execute("""
        create function public.back() returns trigger language plpgsql as $$
        begin update public.things set body = new.body where id = new.id; return null; end $$;
        create trigger back after update on public.things_v2
        for each row execute function public.back()
    """)
    with refused("CF_ARCHIVED", 409):
        db.execute("update public.things_v2 set body = 'edited'")
    assert both(db) == [(1, "n")]


DEPENDENTS = {
    "foreign key": (
        "create table public.child_of_v1 (id bigint references public.things on delete cascade)",
        "child_of_v1", "drop table public.child_of_v1"),
    "view": ("create view public.view_of_v1 as select * from public.things", "view_of_v1",
             "drop view public.view_of_v1"),
    "materialized view": (
        "create materialized view public.stored_v1 as select * from public.things", "stored_v1",
        "drop materialized view public.stored_v1"),
    "function": (
        "create function public.list_v1() returns bigint language sql stable "
        "as 'select count(*) from public.things'", "list_v1", "drop function public.list_v1"),
    "bound function": (
        "create function public.list_v1() returns bigint language sql stable "
        "begin atomic select count(*) from public.things; end", "list_v1",
        "drop function public.list_v1"),
    "policy": (
        "create table public.docs (id bigint); alter table public.docs enable row level security; "
        'create policy "Sees V1" on public.docs using '
        "(exists (select from public.things t where t.id = docs.id))", "Sees V1",
        'drop policy "Sees V1" on public.docs'),
    "publication": (
        "create publication supabase_realtime for table public.things", "supabase_realtime",
        "drop publication supabase_realtime"),
    "trigger of V1": (
        "create function public.on_v1() returns trigger language plpgsql as "
        "'begin return null; end'; create trigger told after insert on public.things "
        "for each row execute function public.on_v1()", None,
        "drop trigger told on public.things"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEPENDENTS)
def test_what_depends_on_v1_is_named_before_it_becomes_an_archive(
    db: Connection, kind: str
) -> None:
    statement, name, undo = DEPENDENTS[kind]
    create(db, PLAIN)
    db.execute(statement)
    register(db)
    to_stage(db, "rampdown")
    found = blockers(db, "complete")
    ours = found.keys() & {"v1_writers", "v1_dependents"}
    if name is None:
        assert ours == set(), "its own triggers go quiet with it"
        return
    assert any(name in found[code] for code in ours), found
    assert name in str(call(db, "plan_pair", "things")), "the plan names it as well"
    db.execute(undo)
    assert blockers(db, "complete").keys() & {"v1_writers", "v1_dependents"} == set()
    call(db, "set_stage", "things", "complete", "test", True)


def test_functions_that_only_look_like_naming_v1_are_in_nobodys_way(db: Connection) -> None:
    create(db, PLAIN)
    db.execute("""
        create table public.nothings (id bigint);
        create table public.things_of_mine (id bigint);
        create schema other; create table other.things (id bigint);
        create function public.a() returns bigint language sql as
          'select count(*) from public.nothings';
        create function public.b() returns bigint language sql as
          'select count(*) from public.things_of_mine';
        create function public.c() returns bigint language sql
          begin atomic select count(*) from other.things; end;
        create function public.d() returns bigint language sql as
          'select count(*) from public.things_v2';
    """)
    register(db)
    to_stage(db, "rampdown")
    assert blockers(db, "complete") == {}
    assert rows(db, "select stage from crossfade.pairs") == [("rampdown",)]
