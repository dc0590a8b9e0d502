"""A plain table becomes the first partition of a root of its name, and nobody notices."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import psycopg
import pytest

from crossfade.gateway.rows import parse
from crossfade.pairs.catalog import RelabelPlan

from .conftest import Connect, Connection, on_both_ends
from .control import call, longest_wait_ms, one, refused, together, wait_for
from .notes_pair import rows

ADA, BOB = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
TABLE = """
create table public.events (
  id bigint generated always as identity primary key, at timestamptz not null default now(),
  body text
);
insert into public.events (at, body)
select '2026-01-01'::timestamptz + g * interval '1 h', 'e' || g from generate_series(1, 1000) g;
"""
WORLD = f"""
create table public.users (id uuid primary key);
insert into public.users values ('{ADA}'), ('{BOB}');
create type public.mood as enum ('good', 'bad');
create table public.events (
  id bigint generated always as identity (start with 100 increment by 5) primary key,
  gone text, owner uuid not null default auth.uid() references public.users on delete cascade,
  body text not null check (body <> ''), mood public.mood default 'good',
  at timestamptz default now(), n integer default 0, serial serial,
  loud text generated always as (upper(body)) stored, unique (owner, n, at)
);
alter table public.events drop column gone;
create index events_mood_idx on public.events (mood, at desc) where mood = 'bad';
create index "Odd %s" on public.events (lower(body)) with (fillfactor = 80);
comment on table public.events is 'what happened';
comment on column public.events.body is 'it''s said';
comment on index public.events_mood_idx is 'the bad ones';
create table public.seen (n bigint, loud text);
create function public.touch() returns trigger language plpgsql as
  'begin new.n := coalesce(new.n, 0) + 1; return new; end';
create function public.note() returns trigger language plpgsql security definer as
  'begin insert into public.seen select count(*), tg_op from said; return null; end';
create trigger touch before insert or update of body on public.events
  for each row when (new.body <> 'quiet') execute function public.touch();
create trigger noted after insert on public.events referencing new table as said
  for each statement execute function public.note();
create trigger off before update on public.events
  for each row execute function public.touch();
alter table public.events disable trigger off;
comment on trigger touch on public.events is 'counts';
alter table public.events enable row level security;
create policy own on public.events to authenticated
  using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
create policy few on public.events as restrictive for select to authenticated using (
  exists (select from public.users u where u.id = events.owner));
grant select on public.users to authenticated;
revoke all on public.events from anon, authenticated;
grant select, insert, delete, update (body, n) on public.events to authenticated;
grant usage on sequence public.events_serial_seq to authenticated;
grant select (id, body) on public.events to anon with grant option;
create publication feed for table public.events (id, owner, body, at) where (body <> 'quiet')
  with (publish_via_partition_root = true, publish = 'insert');
create view public.lately with (security_invoker = true) as
  select e.id, e.body from public.events e where e.at > '2026-01-01';
create view public.counted as select count(*) as n from public.lately;
grant select on public.lately to authenticated;
create table public.files (event bigint, name text);
alter table public.files enable row level security;
grant select on public.files to authenticated;
create policy theirs on public.files to authenticated using (exists (
  select from public.events e where e.id = files.event));
insert into public.events (owner, body, mood, at)
select case when g % 2 = 1 then '{ADA}' else '{BOB}' end::uuid, 'e' || g,
  case when g % 9 = 0 then 'bad' else 'good' end::public.mood,
  '2026-01-01'::timestamptz + g * interval '1 h' from generate_series(1, 1000) g;
insert into public.files select id, body from public.events;
"""
BY = ("public.events", "at", "2027-03-01")


def plan(db: Connection, *given: str | None) -> dict[str, Any]:
    found: dict[str, Any] = call(db, "relabel_plan", *(given or BY))
    assert parse(RelabelPlan, found).table == found["table"]
    return found


def states(db: Connection, *given: str | None) -> list[str]:
    return [step["state"] for step in plan(db, *given)["steps"]]


def apply(db: Connection, *given: str | None) -> list[str]:
    """Run the files that are due, each as a client sends it; give the last part of their names."""
    files = plan(db, *given)["files"]
    for file in files:
        db.execute(file["sql"].encode(), prepare=False)
    return [file["name"].split("-")[1] for file in files]


SHAPES = {
    "columns": """select attname, format_type(atttypid, atttypmod), attnotnull, attcollation,
      attgenerated, attacl::text, col_description(attrelid, attnum), case when attidentity = ''
      and atthasdef then pg_get_expr(adbin, adrelid) end
      from pg_attribute a left join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attrelid = 'events'::regclass and attnum > 0 and not attisdropped order by attnum""",
    "checks": """select conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')
      from pg_constraint where conrelid = 'events'::regclass and contype in ('c', 'u', 'f')
      order by 1""",
    "indexes": """select replace(pg_get_indexdef(indexrelid), 'ON ONLY', 'ON'), indisvalid,
      obj_description(indexrelid, 'pg_class') from pg_index
      where indrelid = 'events'::regclass and not indisprimary order by 1""",
    "triggers": """select tgname, tgenabled, pg_get_triggerdef(oid),
      obj_description(oid, 'pg_trigger') from pg_trigger
      where tgrelid = 'events'::regclass and not tgisinternal order by 1""",
    "policies": """select policyname, permissive, roles, cmd, qual, with_check from pg_policies
      where tablename in ('events', 'files') order by 1""",
    "table": """select relowner::regrole, relacl::text, relrowsecurity, relforcerowsecurity,
      obj_description(oid, 'pg_class') from pg_class where oid = 'events'::regclass""",
    "publications": """select pubname, attnames, rowfilter from pg_publication_tables
      where tablename = 'events'""",
    "views": """select oid::regclass, relowner::regrole, relacl::text, reloptions,
      pg_get_viewdef(oid) from pg_class where relname in ('lately', 'counted') order by 1""",
    "rows": "select * from events order by id",
}


def shapes(db: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {name: rows(db, query) for name, query in SHAPES.items()}


@on_both_ends
def test_what_belongs_to_the_name_is_carried_over(db: Connection, connect: Connect) -> None:
    db.execute(WORLD)
    before, first = shapes(db), one(db, "select relfilenode from pg_class where relname = 'events'")
    assert [note for note in plan(db)["notes"] if "on_conflict=id,at" in note]
    assert states(db) == ["next", "waiting", "waiting", "waiting"]
    assert apply(db) == ["index", "check", "validate", "swap"]
    assert states(db) == ["done"] * 4
    after = shapes(db)
    # No key without the column that the partitions are made by, and so no row without it.
    before["columns"] = [
        (name, kind, True if name == "at" else there, *rest)
        for name, kind, there, *rest in before["columns"]
    ]
    if db.info.server_version < 170000:
        after["columns"] = [
            (name, *rest, None if name == "id" else default)
            for name, *rest, default in after["columns"]
        ]
    for name in SHAPES:
        assert after[name] == before[name], name
    assert one(db, "select relkind from pg_class where relname = 'events'") == "p"
    assert one(db, "select relfilenode from pg_class where relname = 'events_first'") == first
    # The rows that were there, and new ones, by those who could.
    user = connect("authenticated", sub=ADA)
    assert one(user, "select count(*) from events") == 500
    assert one(user, "select count(*) from lately") == 500
    assert one(user, "select count(*) from files") == 500
    new = "insert into events (body, at) values (%s, %s) returning id, owner::text, n, loud"
    assert user.execute(new, ["now", "2026-06-01"]).fetchall() == [(5100, ADA, 1, "NOW")]
    assert user.execute(new, ["far", "2031-06-01"]).fetchall() == [(5105, ADA, 1, "FAR")]
    assert rows(db, "select tableoid::regclass::text from events where id > 5099 order by id") == [
        ("events_first",), ("events_rest",)]  # fmt: skip
    assert one(db, "select count(*) from counted") == 1
    assert one(db, "select n from counted") == 1002
    assert rows(db, "select loud, count(*) from seen group by 1") == [("INSERT", 3)]
    assert one(user, "update events set body = 'x' where id = 5105 returning n") == 2
    refusals = [
        "select from events_first", "select from events_rest", "update events set at = now()",
        f"insert into events (owner, body) values ('{BOB}', 'x')",
    ]  # fmt: skip
    for statement in refusals:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            user.execute(statement.encode())
    db.execute(f"delete from users where id = '{BOB}'")
    assert one(db, "select count(*) from events") == 502
    # The first partition can go, and takes nothing along.
    db.execute("drop table events_first")
    assert one(user, "select count(*) from lately") == 1


@on_both_ends
def test_the_rows_are_not_read_under_the_lock(db: Connection) -> None:
    db.execute(TABLE)
    *files, swap = plan(db)["files"]
    for file in files:
        db.execute(file["sql"].encode(), prepare=False)
    heard: list[str] = []
    db.add_notice_handler(lambda diag: heard.append(diag.message_primary or ""))
    db.execute("set client_min_messages = debug1")
    db.execute(swap["sql"].encode(), prepare=False)
    implied = '"events_first" is implied by existing constraints'
    assert any(implied in text for text in heard), heard
    assert not [text for text in heard if "building index" in text and "events_first" in text]
    assert one(db, "select count(*) from events") == 1000


def test_each_step_can_be_interrupted_and_done_twice(db: Connection, connect: Connect) -> None:
    db.execute(TABLE)
    _, check, validate, swap = [f["sql"].encode() for f in plan(db)["files"]]
    db.execute("create unique index concurrently events_id_at_idx on events (id, at)")
    assert states(db) == ["done", "next", "waiting", "waiting"]
    with refused("CF012", 409) as early:
        db.execute(swap)
    assert "the steps before the swap are not done" in early.message
    db.execute(check)
    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute("insert into events (at) values ('2027-03-01')")
    assert states(db) == ["done", "done", "next", "waiting"]
    assert plan(db)["bound"] == "'2027-03-01 00:00:00+00'::timestamp with time zone"
    # Somebody else goes on, without knowing what was said before.
    db.execute("set timezone = 'Asia/Tokyo'")
    assert plan(db, "events", "at", None)["bound"] == plan(db)["bound"]
    (problem,) = plan(db, "events", "at", "2028-01-01")["problems"]
    assert "alter table public.events drop constraint events_first_bound" in problem
    db.execute(validate)
    with connect() as other, other.transaction():
        other.execute("select from events")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.execute(swap)
    assert one(db, "select relkind from pg_class where relname = 'events'") == "r"
    assert states(db) == ["done", "done", "done", "next"]
    assert apply(db, "events", "at", None) == ["swap"]
    db.execute(swap)
    assert plan(db)["files"] == plan(db)["problems"] == []
    assert states(db) == ["done"] * 4


def test_an_index_that_was_left_behind_is_named_with_the_way_out(db: Connection) -> None:
    db.execute(TABLE)
    db.execute("alter table events drop constraint events_pkey")
    db.execute("insert into events overriding system value select * from events where id = 1")
    (problem,) = plan(db)["problems"]
    assert "has no primary key" in problem
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute("create unique index concurrently events_id_at_idx on events (id, at)")
    db.execute("delete from events where ctid in (select max(ctid) from events where id = 1)")
    db.execute("alter table events add primary key (id)")
    assert states(db)[0] == "broken"
    (step, *_) = plan(db)["steps"]
    way_out = "drop index concurrently public.events_id_at_idx"
    assert step["detail"].endswith(way_out)
    assert plan(db)["files"] == []
    db.execute(way_out.encode())
    assert apply(db) == ["index", "check", "validate", "swap"]


def test_rows_beyond_the_bound_are_found_before_anything_is_renamed(db: Connection) -> None:
    db.execute(TABLE)
    db.execute("insert into events (at) values ('2030-01-01')")
    with pytest.raises(psycopg.errors.CheckViolation):
        apply(db)
    assert states(db) == ["done", "done", "next", "waiting"]
    db.execute("alter table events drop constraint events_first_bound")
    assert apply(db, "events", "at", "2031-01-01") == ["check", "validate", "swap"]
    assert one(db, "select count(*) from events_first") == 1001


SIMPLE = "create table public.events (id bigint primary key, at timestamptz not null, n integer);"
REFUSED = {
    "create view public.events as select 1 as id, now() as at": "is a view",
    "create table public.events (id int, at timestamptz) partition by list (id)": "in another way",
    "create unlogged table public.events (id int primary key, at timestamptz)": "is unlogged",
    f"{SIMPLE} create table public.more () inherits (public.events)": "inherits",
    "create table public.events (id int, at timestamptz)": "no primary key; give it one",
    "create table public.events (id int primary key)": 'no column "at"; name another one: --by',
    "create table public.events (id int primary key, at int generated always as (id) stored)":
        "is generated",
    "create table public.events (id int primary key, at jsonb)": "is jsonb",
    f"{SIMPLE} create table public.events_first ()": "public.events_first exists already; rename",
    f"{SIMPLE} create index events_id_at_idx on public.events (at)":
        "public.events_id_at_idx exists already; rename it",
    f"{SIMPLE} create unique index one on public.events (n)":
        'unique index public.one of public.events does not hold "at"',
    f"{SIMPLE} alter table public.events add exclude using btree (n with =)": "exclusion",
    f"{SIMPLE} alter table public.events drop constraint events_pkey, add primary key (id) "
    "deferrable": "is deferrable",
    f"{SIMPLE} alter table public.events add constraint c check (n > 0) not valid":
        "not validated; run: alter table public.events validate constraint c",
    f"{SIMPLE} alter table public.events add constraint c check (n > 0) no inherit": "NO INHERIT",
    f"{SIMPLE} alter table public.events add constraint events_first_bound check "
    "(at is not null and at < now())": "events_first_bound of public.events says something else",
    f"{SIMPLE} create function public.f() returns trigger language plpgsql as 'begin end'; "
    "create constraint trigger t after insert on public.events for each row "
    "execute function public.f()": "trigger t of public.events is a constraint trigger",
    f"{SIMPLE} create function public.f() returns trigger language plpgsql as 'begin end'; "
    "create trigger t after insert on public.events referencing new table as x for each row "
    "execute function public.f()": "let it run for each statement",
    f"{SIMPLE} create rule r as on delete to public.events do also notify x": "rule r of",
    f"{SIMPLE} create publication p for table public.events":
        "alter publication p set (publish_via_partition_root = true)",
    f"{SIMPLE} create publication supabase_realtime for table public.events":
        "would hear nothing",
    f"{SIMPLE} create materialized view public.m as select id from public.events":
        "materialized view public.m reads public.events itself",
    f"{SIMPLE} create function public.f() returns bigint language sql begin atomic "
    "select count(*) from public.events; end": "function public.f() reads",
    f"{SIMPLE} create function public.title(public.events) returns int language sql as 'select 1'":
        "function public.title(public.events) uses the type",
    f"{SIMPLE} create function public.g() returns setof public.events language sql as "
    "'select * from public.events'": "function public.g() uses the type",
    f"{SIMPLE} create table public.docs (e public.events)":
        "column e of table public.docs uses the type",
    f"{SIMPLE} create view public.v as select id, n from public.events group by id":
        "view public.v groups by the primary key",
    f"{SIMPLE} create table public.child (e bigint constraint fk references public.events)":
        "foreign key fk of public.child points to a part of the key",
    f"{SIMPLE} alter table public.events add constraint u unique (id, at); create table "
    "public.child (e bigint, at timestamptz, constraint fk foreign key (e, at) references "
    "public.events (id, at))": "after the swap: alter table public.child add constraint fk "
    "FOREIGN KEY (e, at) REFERENCES public.events(id, at)",
    f"{SIMPLE} alter table public.events alter id add generated always as identity; "
    "create table public.other (id bigint default nextval('public.events_id_seq'))":
        "default public.other.id reads public.events itself",
    f"{SIMPLE} alter table public.events replica identity using index events_pkey":
        "run: alter table public.events replica identity default",
    f"{SIMPLE} create role crossfade_other; grant crossfade_other to postgres; "
    "grant usage, create on schema public to crossfade_other; alter table public.events owner to "
    "crossfade_other; revoke crossfade_other from postgres": "belongs to crossfade_other, of which",
}  # fmt: skip


@pytest.mark.parametrize("build", REFUSED)
def test_what_cannot_be_carried_over_is_refused_by_name(scratch: Connection, build: str) -> None:
    scratch.execute(build.encode())
    found = plan(scratch)
    assert REFUSED[build] in "; ".join(found["problems"])
    assert (found["steps"], found["files"]) == ([], [])


def test_what_was_added_after_the_plan_is_carried_over_or_refused(db: Connection) -> None:
    db.execute(TABLE)
    *files, swap = plan(db)["files"]
    for file in files:
        db.execute(file["sql"].encode(), prepare=False)
    db.execute("create index late on events (body); create materialized view m as table events")
    with refused("CF012", 409) as told:
        db.execute(swap["sql"].encode())
    assert "materialized view public.m" in told.message
    db.execute("drop materialized view m")
    db.execute(swap["sql"].encode())
    assert one(db, "select indrelid::regclass::text from pg_index where indexrelid = "
                   "'late'::regclass") == "events"  # fmt: skip


def test_a_table_of_a_pair_is_refused(db: Connection) -> None:
    db.execute(
        TABLE
        + """
      create table public.events_v2 (like public.events including all);
      create function public.up(a public.events, o public.events_v2) returns setof public.events_v2
        language sql stable set search_path = pg_catalog, pg_temp as 'select a.*';
      create function public.down(b public.events_v2, o public.events) returns setof public.events
        language sql stable set search_path = pg_catalog, pg_temp as 'select b.*'"""
    )
    call(db, "register_pair", "events", "public.events", "public.events_v2", "public.up",
         "public.down")  # fmt: skip
    problems = plan(db)["problems"]
    assert any("crossfade pair remove events" in text for text in problems)


def test_other_types_and_a_key_that_holds_the_column(db: Connection) -> None:
    db.execute("""create table "No%s" ("a""b" int, "c d" bigint, primary key ("c d", "a""b"));
      insert into "No%s" select g, g from generate_series(1, 10) g""")
    given = ("No%s", 'a"b')
    (problem,) = plan(db, *given, None)["problems"]
    assert "--to VALUE" in problem
    with refused("CF012", 400):
        plan(db, *given, "soon")
    # The primary key does already.
    assert states(db, *given, "20") == ["done", "next", "waiting", "waiting"]
    assert apply(db, *given, "20") == ["check", "validate", "swap"]
    db.execute("""insert into "No%s" values (20, 1)""")
    assert rows(db, """select tableoid::regclass::text, count(*) from "No%s" group by 1""") == [
        ('"No%s_rest"', 1), ('"No%s_first"', 10)]  # fmt: skip
    keys = "select relname from pg_class where relname like 'No%pkey%' order by 1"
    assert rows(db, keys) == [("No%s_pkey",), ("No%s_pkey_first",), ("No%s_rest_pkey",)]


@on_both_ends
def test_writers_go_on_through_all_steps(db: Connection, connect: Connect) -> None:
    """Tenants with prepared statements, and the owner above READ COMMITTED."""
    db.execute(WORLD)
    done = threading.Event()
    told: dict[str, list[int]] = {ADA: [], BOB: []}
    edits = {ADA: 0, BOB: 0, "owner": 0}
    waits: list[float] = []

    def tenant(who: str, connection: Connection) -> None:
        while not done.is_set():
            before = time.monotonic()
            new = connection.execute(
                "insert into events (body, at) values ('new', now()) returning *", prepare=True
            ).fetchone()
            assert new
            told[who].append(new[0])
            found = connection.execute(
                "update events set n = n + 1 where id = %s", [told[who][0]], prepare=True
            )
            edits[who] += found.rowcount
            assert connection.execute("select count(*) from lately", prepare=True).fetchone()
            waits.append(time.monotonic() - before)

    def owner(connection: Connection) -> None:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        while not done.is_set():
            with connection.transaction():
                connection.execute("select from users")
                connection.execute("update events set n = n + 1 where id = 100", prepare=True)
            edits["owner"] += 1

    def operator() -> None:
        try:
            wait_for(lambda: min(edits.values()) > 5)
            for file in plan(db)["files"]:
                db.execute(file["sql"].encode(), prepare=False)
            so_far = dict(edits)
            wait_for(lambda: all(edits[who] > so_far[who] + 5 for who in edits))
        finally:
            done.set()

    clients = [partial(tenant, who, connect("authenticated", sub=who)) for who in told]
    together([operator, *clients, partial(owner, connect())])
    for who, ids in told.items():
        assert rows(db, f"select id from events where owner = '{who}' and body = 'new' order by 1"
                    ) == [(number,) for number in sorted(ids)]  # fmt: skip
        assert one(db, f"select n from events where id = {ids[0]}") == edits[who] + 1
    assert one(db, "select n from events where id = 100") == edits["owner"] + 1
    assert one(db, "select relkind from pg_class where relname = 'events'") == "p"
    print(f"longest of {len(waits)} rounds of three statements: {max(waits) * 1000:.0f} ms")


@on_both_ends
def test_the_swap_keeps_nobody_waiting_for_half_a_second(db: Connection) -> None:
    db.execute(WORLD)
    *files, swap = plan(db)["files"]
    for file in files:
        db.execute(file["sql"].encode(), prepare=False)
    attempt, held = longest_wait_ms(db, swap["sql"])
    print(f"the swap holds the table for {held:.1f} ms, after attempts of {attempt:.0f} ms")
    assert attempt + held < 500
