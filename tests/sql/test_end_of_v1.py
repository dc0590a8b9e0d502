"""Before V1 becomes an archive nobody may write it any more, and nothing may need it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.cases.pairs import (
    PLAIN,
    Shape,
    backfill,
    blockers,
    both,
    create,
    group_to_stage,
    register,
    settled,
    to_stage,
)

from .conftest import ROOT, Connect, Connection, begins_with
from .control import call, one, refused
from .notes_pair import rows
from .things_pair import verify

AUDIENCE = """
create table public.chats (id bigint primary key);
insert into public.chats select generate_series(1, 9);
create table public.signups (id bigint);
grant all on public.chats, public.signups to authenticated
"""
CHILDREN = Shape(
    v1="id bigint primary key, body text, chat bigint references public.chats on delete cascade "
    "on update cascade",
    v2="id bigint primary key, body text, chat bigint references public.chats on delete cascade "
    "on update cascade, pinned boolean",
    to_v2="a.id, a.body, a.chat, o.pinned",
    to_v1="b.id, b.body, b.chat",
    before=AUDIENCE,
)


def watched(db: Connection, bake_s: str = "3600") -> None:
    """In rampdown for longer than the bake time, as the engine sees it."""
    for what in (
        "crossfade_private.mirror_state set watched_since",
        "crossfade.pairs set full_since",
    ):
        db.execute(f"update {what} = now() - interval '9 days'")
    call(db, "set_setting", "stage_bake_s", bake_s, "test")


def pair(db: Connection) -> None:
    """Twenty rows, stage rampdown, a bake time of an hour that has been waited for."""
    create(db, CHILDREN)
    db.execute("insert into public.things select g, 'n', 1 + g % 4 from generate_series(1, 20) g")
    register(db)
    to_stage(db, "rampdown")
    watched(db)


def noted(db: Connection) -> list[tuple[Any, ...]]:
    return rows(
        db, "select role, application, called_by from crossfade_private.v1_writes order by 1, 2, 3"
    )


WRITES = {
    "insert": "insert into public.things values (100, 'x', 1)",
    "insert of many": "insert into public.things select g, 'x', 1 from generate_series(100, 130) g",
    "update": "update public.things set body = 'x' where id = 1",
    "update of what no converter reads": "update public.things set id = id where id = 1",
    "update of nothing": "update public.things set body = 'x' where false",
    "new key": "update public.things set id = 200 where id = 1",
    "delete": "delete from public.things where id = 1",
    "truncate": "truncate public.things",
    "upsert": "insert into public.things values (1, 'x', 1) "
    "on conflict (id) do update set body = 'x'",
    "merge": "merge into public.things t using (values (1)) s (id) on t.id = s.id "
    "when matched then delete",
    "unqualified": "set local search_path = public; update things set body = 'x' where id = 1",
    "quoted": 'update "public"."things" set body = \'x\' where id = 1',
    "prepared": "prepare w as delete from public.things where id = $1; execute w(1)",
    "together with a parent": "with gone as (delete from public.chats where id = 9) "
    "update public.things set body = 'x' where id = 1",
    "in a function": "do $$ begin update public.things set body = 'x' where id = 1; end $$",
    "in dynamic SQL": "do $$ begin execute 'update public.thi' || 'ngs set body = ''x'''; end $$",
}


@pytest.mark.parametrize("kind", WRITES)
@begins_with(pair)
def test_a_direct_write_is_noted_and_blocks_complete(
    db: Connection, connect: Connect, kind: str
) -> None:
    assert blockers(db, "complete") == {}
    client = connect()
    client.execute("set application_name = 'old app'")
    client.execute("begin")
    client.execute(WRITES[kind])
    client.execute("commit")
    assert noted(db) == [("postgres", "old app", None)]
    found = blockers(db, "complete")
    assert list(found) == ["v1_written"]
    assert 'by role postgres (application "old app"' in found["v1_written"]
    with refused("CF005", 409):
        call(db, "set_stage", "things", "complete", "test", True)
    # The bake time over, it is history.
    db.execute("update crossfade_private.v1_writes set at = now() - interval '2 hours'")
    assert blockers(db, "complete") == {}


NOT_COUNTED = {
    "a client of V2": "insert into public.things_v2 values (100, 'x', 1, true); "
    "update public.things_v2 set body = 'y' where id = 1; "
    "update public.things_v2 set id = 201 where id = 2; delete from public.things_v2 where id = 3",
    "many rows of V2": "update public.things_v2 set body = 'y'; delete from public.things_v2",
    "truncate of V2": "truncate public.things_v2",
    "the parent": "delete from public.chats where id = 1",
    "the parent's key": "update public.chats set id = 50 where id = 2",
    "the parent in a function": "do $$ begin delete from public.chats where id = 3; end $$",
    "reading": "select * from public.things for update",
}


@pytest.mark.parametrize("kind", NOT_COUNTED)
@begins_with(pair)
def test_what_the_mirror_and_foreign_keys_write_is_not_counted(
    db: Connection, connect: Connect, kind: str
) -> None:
    client = connect("authenticated") if kind != "reading" else connect()
    if kind == "truncate of V2":
        client = connect()
    client.execute(NOT_COUNTED[kind])
    assert noted(db) == []
    assert blockers(db, "complete").keys() <= {"open_failures"}
    settled(db, "id, body, chat")


@begins_with(pair)
def test_what_the_engine_writes_is_not_counted(db: Connection) -> None:
    db.execute("alter table public.things disable trigger user")
    db.execute("update public.things set body = 'behind' where id = 1")
    db.execute("alter table public.things enable trigger user")
    verify(db, "things")
    call(db, "repair", "things", reason="test")
    backfill(db)
    assert noted(db) == []
    settled(db, "id, body, chat")


@begins_with(pair)
def test_a_parent_of_a_parent_is_known_too(db: Connection, connect: Connect) -> None:
    db.execute("""
        create table public.rooms (id bigint primary key); insert into public.rooms values (1);
        alter table public.chats add room bigint references public.rooms on delete cascade;
        update public.chats set room = 1 where id = 1;
        grant all on public.rooms to authenticated""")
    connect("authenticated").execute("delete from public.rooms")
    assert noted(db) == []
    settled(db, "id, body, chat")


@begins_with(pair)
def test_a_trigger_of_another_table_is_named_with_its_function(
    db: Connection, connect: Connect
) -> None:
    db.execute("""
        create function public.welcome() returns trigger language plpgsql security definer
        as $$ begin
          insert into public.things values (new.id, 'welcome', 1);
          return null;
        end $$;
        create trigger welcome after insert on public.signups for each row
        execute function public.welcome()""")
    connect("authenticated").execute("insert into public.signups values (300)")
    assert noted(db) == [("authenticated", "", "welcome()")]
    assert "by welcome()" in blockers(db, "complete")["v1_written"]
    settled(db, "id, body, chat")


@begins_with(pair)
def test_each_session_is_noted_once_in_a_while_and_waits_for_nobody(
    db: Connection, connect: Connect
) -> None:
    first, second = connect("authenticated"), connect("service_role")
    first.execute("begin")
    first.execute("update public.things set body = 'a' where id = 1")
    second.execute("set lock_timeout = '200ms'")
    second.execute("update public.things set body = 'b' where id = 2")
    second.execute("update public.things set body = 'c' where id = 2")
    assert [role for role, _, _ in noted(db)] == ["service_role"]
    first.execute("commit")
    before = rows(db, "select role, at from crossfade_private.v1_writes order by 1")
    first.execute("update public.things set body = 'd' where id = 1")
    assert rows(db, "select role, at from crossfade_private.v1_writes order by 1") == before
    db.execute("update crossfade_private.v1_writes set at = at - interval '11 seconds'")
    first.execute("update public.things set body = 'e' where id = 1")
    assert one(db, "select count(*) from crossfade_private.v1_writes "
                     "where at > clock_timestamp() - interval '5 seconds'") == 1  # fmt: skip
    first.execute("begin")
    db.execute("delete from crossfade_private.v1_writes")
    first.execute("update public.things set body = 'f' where id = 1")
    first.execute("rollback")
    assert noted(db) == []


@begins_with(pair)
def test_no_setting_of_a_session_hides_its_writes(db: Connection, connect: Connect) -> None:
    client = connect()
    client.execute("set crossfade.mark_things = 'engine'")
    client.execute("set application_name = 'x'")
    client.execute("update public.things set body = 'x' where id = 1")
    assert noted(db) == [("postgres", "x", None)]


def test_a_session_that_has_the_table_locked_when_watching_begins_is_seen(
    db: Connection, connect: Connect
) -> None:
    create(db, CHILDREN)
    db.execute("insert into public.things values (1, 'n', 1)")
    register(db)
    to_stage(db, "live")
    call(db, "set_cohort", "things", {"percentage": 100}, "test")
    client = connect()
    client.execute("begin")
    client.execute("update public.things set body = 'a' where id = 1")
    call(db, "set_stage", "things", "rampdown", "test")
    client.execute("update public.things set body = 'b' where id = 1")
    client.execute("commit")
    assert len(noted(db)) == 1
    settled(db, "id, body, chat")


@pytest.mark.parametrize("stage", ["dualwrite", "shadow", "live"])
def test_nothing_is_noted_before_rampdown(db: Connection, stage: str) -> None:
    create(db, CHILDREN)
    register(db)
    to_stage(db, stage)
    db.execute("insert into public.things values (1, 'n', 1)")
    db.execute("update public.things set body = 'x'")
    assert noted(db) == []


@begins_with(pair)
def test_going_back_ends_the_watch_and_the_next_time_it_begins_anew(db: Connection) -> None:
    db.execute("update public.things set body = 'x' where id = 1")
    call(db, "set_stage", "things", "live", "test")
    db.execute("delete from crossfade_private.v1_writes")
    db.execute("update public.things set body = 'y' where id = 1")
    assert noted(db) == []
    call(db, "set_stage", "things", "rampdown", "test")
    assert "have been watched since" in blockers(db, "complete")["v1_written"]
    settled(db, "id, body, chat")


def test_a_watch_that_is_too_young_blocks_complete(db: Connection) -> None:
    create(db, CHILDREN)
    register(db)
    to_stage(db, "rampdown")
    assert blockers(db, "complete") == {}
    call(db, "set_setting", "stage_bake_s", "3600", "test")
    db.execute("update crossfade.pairs set full_since = now() - interval '9 days'")
    assert list(blockers(db, "complete")) == ["v1_written"]


# What depends on V1 -------------------------------------------------------------------------------


def dependents(db: Connection) -> list[tuple[Any, ...]]:
    return rows(
        db,
        "select d.kind, d.object, d.owner, d.is_ignored, d.command from crossfade.pairs p, "
        "crossfade_private.v1_dependents(p) d where p.name = 'things'",
    )


DEPENDENTS = {
    # What is made; kind and name of what is found; whether the printed command settles it.
    "foreign key": (
        "create table public.parts (thing bigint constraint of_thing references public.things "
        "on delete cascade)",
        ("foreign key", "of_thing of public.parts"), True),
    "foreign key to another column": (
        "alter table public.things add unique (id, body); "
        "create table public.parts (thing bigint, body text, constraint of_thing "
        "foreign key (thing, body) references public.things (id, body))",
        ("foreign key", "of_thing of public.parts"), True),
    "view": ("create view public.shown as select * from public.things",
             ("view", "public.shown"), False),
    "view with a quoted name": ('create view public."Shown ""all""" as select 1 from public.things',
                                ("view", 'public."Shown ""all"""'), False),
    "materialized view": ("create materialized view public.kept as select body from public.things",
                          ("materialized view", "public.kept"), False),
    "rule": ("create table public.ruled (id bigint); create rule redirect as on insert to "
             "public.ruled do also delete from public.things where id = new.id",
             ("rule", "redirect of public.ruled"), False),
    "policy": ("create table public.docs (id bigint); create policy see on public.docs "
               "using (exists (select from public.things t where t.id = docs.id))",
               ("policy", "see of public.docs"), False),
    "publication": ("create publication supabase_realtime for table public.things",
                    ("publication", "supabase_realtime"), True),
    "default": ("create sequence public.ids owned by public.things.id; "
                "create table public.others (id bigint default nextval('public.ids'))",
                ("default", "public.others.id"), True),
    "function": ("create function public.total() returns bigint language sql "
                 "as 'select count(*) from public.things'",
                 ("function", "public.total()"), False),
    "function with a standard body": (
        "create function public.total() returns bigint language sql "
        "begin atomic select count(*) from public.things; end",
        ("function", "public.total()"), False),
    "function by the search path": (
        "create function public.total() returns bigint language plpgsql set search_path = public "
        "as 'declare t things; begin return 1; end'",
        ("function", "public.total()"), False),
    "procedure": ("create procedure public.clean() language plpgsql as "
                  "$$ begin execute 'delete from things'; end $$",
                  ("function", "public.clean()"), False),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEPENDENTS)
@begins_with(pair)
def test_everything_that_depends_on_v1_is_named_until_it_is_settled_or_ignored(
    db: Connection, kind: str
) -> None:
    statement, (word, name), settles = DEPENDENTS[kind]
    db.execute(statement)
    ((found_kind, found_name, owner, ignored, command),) = dependents(db)
    assert (found_kind, found_name, owner, ignored) == (word, name, "postgres", False)
    assert call(db, "plan_pair", "things")["dependents"][0]["object"] == name
    message = blockers(db, "complete")["v1_dependents"]
    assert name in message
    assert "owner postgres" in message
    for part in command.split(";"):
        if part.strip():
            db.execute(part)  # the way out runs as printed
    if settles:
        assert dependents(db) == []
        assert blockers(db, "complete") == {}
        settled(db, "id, body, chat")
        return
    answer = call_ignore(db, name)
    assert (answer["before"], answer["after"]) == ([], [name])
    assert blockers(db, "complete") == {}
    assert dependents(db)[0][3] is True
    register(db)  # the pair's file is applied again
    assert blockers(db, "complete") == {}
    assert call_ignore(db)["after"] == []
    assert list(blockers(db, "complete")) == ["v1_dependents"]
    call_ignore(db, name)
    call(db, "set_stage", "things", "complete", "test", True)


def call_ignore(db: Connection, *names: str) -> dict[str, Any]:
    ((answer,),) = db.execute(
        "select crossfade.ignore_dependents('things', %s, 'test')", [list(names)]
    ).fetchall()
    found: dict[str, Any] = answer
    return found


def test_a_foreign_key_of_two_columns_is_pointed_to_v2_by_the_printed_command(
    db: Connection,
) -> None:
    create(
        db,
        Shape(
            v1='a integer, "B" text, body text, primary key (a, "B")',
            v2='x bigint, "Y" text, body text, primary key (x, "Y")',
            to_v2='a.a::bigint, a."B", a.body',
            to_v1='b.x::integer, b."Y", b.body',
        ),
    )
    db.execute("""
        insert into public.things values (1, 'k', 'n');
        create table public.parts (b text, a integer, constraint "of it" foreign key (b, a)
          references public.things ("B", a) on update cascade on delete set null);
        insert into public.parts values ('k', 1)""")
    register(db, v2_key=["x", "Y"])
    to_stage(db, "rampdown")
    ((_, _, _, _, command),) = dependents(db)
    for part in command.split(";"):
        if part.strip():
            db.execute(part)
    definition = one(
        db, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'of it'"
    )
    assert definition == ('FOREIGN KEY (b, a) REFERENCES things_v2("Y", x) '
                          "ON UPDATE CASCADE ON DELETE SET NULL")  # fmt: skip
    assert blockers(db, "complete") == {}


@begins_with(pair)
def test_a_name_that_depends_on_nothing_is_refused_with_those_that_do(db: Connection) -> None:
    db.execute("create view public.shown as select * from public.things")
    with pytest.raises(psycopg.Error, match="does not depend on version 1") as caught:
        call_ignore(db, "public.show")
    assert json.loads(caught.value.diag.message_detail or "{}")["known"] == ["public.shown"]
    with pytest.raises(psycopg.Error):
        db.execute("select crossfade.ignore_dependents('things', '{public.shown}', ' ')")


@begins_with(pair)
def test_names_that_only_look_alike_are_not_found(db: Connection) -> None:
    db.execute("""
        create schema other; create table other.things (id bigint);
        create function public.a() returns bigint language sql
          as 'select count(*) from other.things';
        create function public.b() returns bigint language sql
          as 'select count(*) from other . "things"';
        create function public.c() returns text language sql
          as 'select ''athings things_b $things''';
        create function public.on_v1() returns trigger language plpgsql as
          'begin update public.things set body = null where false; return null; end';
        create trigger own after insert on public.things for each row
          execute function public.on_v1();
        create table public.parts (thing bigint references public.things_v2)""")
    assert dependents(db) == []


ODD = '"My app"."a.b(c) + d"'


def test_a_table_whose_name_needs_quotes_is_found_as_it_is_written(db: Connection) -> None:
    db.execute(f"""
        create schema "My app";
        create table {ODD} (id bigint primary key);
        create table public.v2 (id bigint primary key);
        create function public.to2(a {ODD}, o public.v2) returns setof public.v2
        language sql stable begin atomic select a.id; end;
        create function public.to1(b public.v2, o {ODD}) returns setof {ODD}
        language sql stable begin atomic select b.id; end;
        create function public.named() returns bigint language sql
          as $$ select count(*) from {ODD.replace(".", " . ", 1)} $$;
        create function public.unnamed() returns text language sql as $$ select 'a.b(c) + d' $$""")
    call(db, "register_pair", "odd", ODD, "public.v2", "public.to2", "public.to1")
    found = "select d.object from crossfade.pairs p, crossfade_private.v1_dependents(p) d"
    assert rows(db, found) == [("public.named()",)]


def test_pairs_that_refer_to_each_other_become_archives_together(db: Connection) -> None:
    create(db, PLAIN, "owners")
    create(
        db,
        Shape(
            v1="id bigint primary key, body text, owner bigint constraint of_owner "
            "references public.owners",
            v2="id bigint primary key, body text, owner bigint references public.owners_v2",
            to_v2="a.*",
            to_v1="b.*",
        ),
    )
    create(db, PLAIN, "strangers")
    for name in ("owners", "things", "strangers"):
        register(db, name)
    asks = "create policy asks on public.{} using (exists (select from public.owners))"
    for table in ("things", "strangers"):
        db.execute(asks.format(table))
    group_to_stage(db, "rampdown", "owners", "things")
    # An archive's policy may ask an archive; that of a table which goes on may not.
    message = blockers(db, "complete", "owners")["v1_dependents"]
    assert "asks of public.strangers" in message
    assert "asks of public.things" not in message
    db.execute("drop policy asks on public.strangers")
    for name, other in (("owners", "things"), ("things", "owners")):
        found = blockers(db, "complete", name)
        assert list(found) == ["group"], "their own foreign keys are in nobody's way"
        assert f'"{other}" is in rampdown' in found["group"]
        with refused("CF005", 409):
            call(db, "set_stage", name, "complete", "test", True)
    call(db, "set_group_stage", "things", "complete", "test", True)
    stages = rows(db, "select stage from crossfade.pairs order by name")
    assert stages == [("complete",), ("off",), ("complete",)]


@begins_with(pair)
def test_jobs_of_cron_are_named(db: Connection) -> None:
    db.execute("""
        create schema cron; create table cron.job (
          jobid bigint, jobname text, command text, username text);
        insert into cron.job values (1, 'nightly', 'delete from public.things', 'postgres'),
          (2, null, 'select 1 from things', 'postgres'), (3, 'other', 'vacuum', 'postgres')""")
    assert [(kind, name) for kind, name, *_ in dependents(db)] == [
        ("cron job", "2"), ("cron job", "nightly"),
    ]  # fmt: skip


# The archive --------------------------------------------------------------------------------------


def archive(db: Connection) -> None:
    """Complete, although a child points to V1."""
    pair(db)
    db.execute("""create table public.parts (thing bigint references public.things
        on delete cascade on update cascade); grant all on public.parts to authenticated""")
    call_ignore(db, "parts_thing_fkey of public.parts")
    call(db, "set_stage", "things", "complete", "test", True)


@begins_with(archive)
def test_children_of_the_archive_can_be_written(db: Connection, connect: Connect) -> None:
    client = connect("authenticated")
    client.execute("insert into public.parts values (1), (2)")
    client.execute("update public.parts set thing = 3 where thing = 2")
    client.execute("delete from public.chats where id = 4")  # takes 3, 7, ... and parts of them
    assert rows(db, "select thing from public.parts") == [(1,)]
    both(db, "id, chat")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        client.execute("insert into public.parts values (3)")


FORGED = {
    "in a trigger": "begin execute $q$ DELETE FROM ONLY \"public\".\"things\" WHERE $1 "
    'OPERATOR(pg_catalog.=) "chat" $q$ using 1::bigint; return null; end',
    "to the letter": "begin execute 'DELETE FROM ONLY \"public\".\"things\" WHERE $1 "
    "OPERATOR(pg_catalog.=) \"chat\"' using 1::bigint; return null; end",
    "an update": "begin execute 'UPDATE ONLY \"public\".\"things\" SET \"chat\" = NULL WHERE $1 "
    "OPERATOR(pg_catalog.=) \"chat\"' using 1::bigint; return null; end",
}  # fmt: skip


@pytest.mark.parametrize("name", ["forge", '"for ge"', '"f""( ge"', '"my schema"."f"'])
@pytest.mark.parametrize("kind", FORGED)
@begins_with(archive)
def test_a_statement_that_looks_like_a_foreign_keys_is_refused_all_the_same(
    db: Connection, kind: str, name: str
) -> None:
    db.execute('create schema "my schema"')
    function = name if "." in name else f"public.{name}"
    db.execute(f"""
        create function {function}() returns trigger language plpgsql as $f$ {FORGED[kind]} $f$;
        create trigger forge after insert on public.signups for each statement
        execute function {function}()""")
    before = rows(db, "select * from public.things order by 1")
    with refused("CF_ARCHIVED", 409):
        db.execute("insert into public.signups values (1)")
    assert rows(db, "select * from public.things order by 1") == before


OWNED = Shape(
    v1="id bigint primary key, owner text, body text, note text",
    v2="id bigint primary key, owner text, body text, note text",
    to_v2="a.*",
    to_v1="b.*",
)
AGAIN = {
    "an edit": "update public.things_v2 set body = 'secret' where id = 1",
    "many edits": "update public.things_v2 set body = 'secret' where id < 12",
    "a new key": "update public.things_v2 set id = 101, body = 'secret' where id = 1",
    "a new row": "delete from public.things_v2 where id = 1; "
    "insert into public.things_v2 values (1, 'ada', 'secret', 'of ada')",
    "a merged row": "with gone as (delete from public.things_v2 where id = 2) "
    "insert into public.things_v2 values (1, 'ada', 'a', 'b') "
    "on conflict (id) do update set body = 'secret'",
}


@pytest.mark.parametrize("name", AGAIN)
def test_on_the_way_back_no_edit_reaches_the_row_that_the_archive_has_under_its_key(
    db: Connection, name: str
) -> None:
    """What V2 deleted while V1 was an archive stands there still, as somebody else's row."""
    create(db, OWNED)
    db.execute("insert into public.things select g, 'bob', 'b', 'of bob' from "
               "generate_series(1, 20) g")  # fmt: skip
    register(db)
    to_stage(db, "complete")
    db.execute("delete from public.things_v2")
    db.execute("insert into public.things_v2 select g, 'ada', 'a', 'of ada' from "
               "generate_series(1, 11) g")  # fmt: skip
    call(db, "start_backfill", "things", "v2_to_v1")
    db.execute(AGAIN[name].encode())
    mixed = "select * from public.things where (owner, note) <> ('ada', 'of ada') and body <> 'b'"
    assert rows(db, mixed) == []
    assert one(db, "select count(*) from crossfade.mirror_failures") == 0
    backfill(db, "things", "v2_to_v1")
    verify(db, "things")
    call(db, "repair", "things", reason="test", follower_only="delete")
    assert verify(db, "things") == 0
    settled(db, "id, owner, body, note", "id, owner, body, note")


def test_a_row_that_is_no_row_of_v1_leaves_the_archive_on_the_way_back(db: Connection) -> None:
    create(db, OWNED.but(to_v1="b.* where b.body <> 'hidden'"))
    db.execute("insert into public.things values (1, 'bob', 'b', ''), (2, 'bob', 'b', '')")
    register(db)
    to_stage(db, "complete")
    call(db, "start_backfill", "things", "v2_to_v1")
    db.execute("update public.things_v2 set body = 'hidden' where id = 1")
    assert rows(db, "select id from public.things") == [(2,)]


def test_a_child_of_v1_is_named_once_by_plan_and_doctor(db: Connection) -> None:
    parent = "parent_id bigint references public.parent on delete cascade"
    create(
        db,
        Shape(
            v1=f"id bigint primary key, {parent}",
            v2=f"id bigint primary key, {parent}",
            to_v2="a.*",
            to_v1="b.*",
            before="create table public.parent (id bigint primary key); "
            "insert into public.parent select generate_series(1, 9); "
            "grant all on public.parent to authenticated",
            after="create table public.child_of_v1 (id bigint references public.things "
            "on delete cascade); insert into public.things values (1, 1), (2, 2)",
        ),
    )
    register(db)
    assert "child_of_v1" in str(call(db, "plan_pair", "things")["dependents"]), "from the first day"
    check = (ROOT / "sql" / "checks" / "v1_dependents.sql").read_text(encoding="utf-8")
    assert rows(db, check) == []
    to_stage(db, "rampdown")
    ((_, found, problem, hint),) = rows(db, check)
    assert "child_of_v1" in found
    assert problem.startswith("foreign key (owner postgres): depends on public.things of pair")
    with refused("CF005", 409):
        call(db, "set_stage", "things", "complete", "test", True)
    db.execute("delete from public.parent where id = 1")
    db.execute("insert into public.things_v2 values (3, 2)")
    db.execute("insert into public.child_of_v1 values (3)")
    for command in hint.split(";"):
        if command.strip():
            db.execute(command)
    assert rows(db, check) == []
    call(db, "set_stage", "things", "complete", "test", True)
    db.execute("insert into public.things_v2 values (4, 2)")
    db.execute("insert into public.child_of_v1 values (4)")
    db.execute("delete from public.parent where id = 2")
    assert one(db, "select count(*) from public.child_of_v1") == 0
    both(db, "id, parent_id")


CHATS = '"My app"."The ""chats"""'


def test_foreign_keys_of_other_shapes_reach_the_archive(db: Connection) -> None:
    db.execute(f"""
        create schema "My app";
        create table {CHATS} (a varchar(9), b integer, primary key (a, b));
        insert into {CHATS} values ('x', 1), ('y', 2), ('z', 3)""")
    create(
        db,
        Shape(
            v1=f'id bigint primary key, "Ca" text, cb bigint, foreign key ("Ca", cb) '
            f"references {CHATS} on update cascade on delete cascade",
            v2="id bigint primary key, ca text, cb bigint",
            to_v2='a.id, a."Ca", a.cb',
            to_v1="b.id, b.ca, b.cb",
        ),
    )
    db.execute("insert into public.things values (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)")
    register(db)
    to_stage(db, "complete")
    db.execute(f"update {CHATS} set a = 'new' where a = 'x'")
    db.execute(f"do $$ begin delete from {CHATS} where a = 'y'; end $$")
    assert rows(db, "select * from public.things order by 1") == [(1, "new", 1), (3, "z", 3)]
    with refused("CF_ARCHIVED", 409):
        db.execute("delete from public.things")


def test_the_archive_keeps_no_row_of_another_table_alive(db: Connection) -> None:
    """V1's own foreign keys hold on, for rows that version 2 has deleted since."""
    create(
        db,
        Shape(
            before="create table public.makers (id bigint primary key);"
            "create table public.owners (id bigint primary key)",
            v1="id bigint primary key, maker bigint references public.makers, "
            "owner bigint references public.owners on delete cascade",
            v2="id bigint primary key, maker bigint references public.makers, "
            "owner bigint references public.owners on delete cascade",
            to_v2="a.id, a.maker, a.owner",
            to_v1="b.id, b.maker, b.owner",
        ),
    )
    db.execute("insert into makers values (1), (2); insert into owners values (1), (2);"
               "insert into things values (1, 1, 1), (2, 2, 2)")  # fmt: skip
    register(db)
    to_stage(db, "rampdown")
    found = blockers(db, "complete")
    assert set(found) == {"archive_keys"}
    assert "foreign key things_maker_fkey of public.things" in found["archive_keys"]
    with db.transaction(force_rollback=True):
        call(db, "ignore_dependents", "things", '{"things_maker_fkey of public.things"}', "test")
        assert blockers(db, "complete") == {}
    db.execute("alter table public.things drop constraint things_maker_fkey")
    call(db, "set_stage", "things", "complete", "test", True)
    db.execute("delete from things_v2 where id = 1; delete from makers where id = 1")
    db.execute("delete from owners where id = 2")
    assert rows(db, "select id from things_v2") == []
