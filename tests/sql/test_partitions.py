"""Partitioned tables in a pair: on either side, every kind, written by the root and by a leaf."""

from __future__ import annotations

import re
import threading
from typing import Any

import psycopg
import pytest

from tests.sql.cases.pairs import backfill, blockers, repair, to_stage

from .conftest import Connect, Connection, Template, begins_with, on_both_ends
from .control import call, one
from .notes_pair import rows
from .things_pair import failures, verify

pytestmark = on_both_ends

KINDS = {
    "plain": ("", ""),
    # A default partition, one of sub-partitions, and one whose columns stand in another order.
    "range": (
        "partition by range (at)",
        """
        create table public.{t}_1 partition of public.{t}
          for values from ('2026-01-01') to ('2026-02-01');
        create table public.{t}_2 partition of public.{t}
          for values from ('2026-02-01') to ('2026-03-01') partition by list (kind);
        create table public.{t}_2_a partition of public.{t}_2 for values in ('a');
        create table public.{t}_2_rest partition of public.{t}_2 default;
        create table public.{t}_3 ({turned});
        alter table public.{t} attach partition public.{t}_3
          for values from ('2026-03-01') to ('2026-04-01');
        create table public.{t}_rest partition of public.{t} default
        """,
    ),
    "hash": (
        "partition by hash (id, at)",
        """
        create table public.{t}_1 partition of public.{t}
          for values with (modulus 3, remainder 0);
        create table public.{t}_2 partition of public.{t}
          for values with (modulus 3, remainder 1);
        create table public.{t}_3 partition of public.{t}
          for values with (modulus 3, remainder 2)
        """,
    ),
}
KEY = "id bigint not null, at timestamptz not null, kind text not null"
SAME = "id, at, kind, body"


def create(db: Connection, v1: str, v2: str) -> None:
    """Make the tables things and things_v2 of these kinds, and their converters."""
    for name, kind, more in (("things", v1, "draft text"), ("things_v2", v2, "pinned boolean")):
        by, partitions = KINDS[kind]
        db.execute(f"create table public.{name} ({KEY}, gone text, body text, {more}, "
                   f"primary key (id, at, kind)) {by}")  # fmt: skip
        db.execute(f"alter table public.{name} drop column gone")
        turned = (
            f"{more}, body text, kind text not null, at timestamptz not null, id bigint not null"
        )
        db.execute(partitions.format(t=name, turned=turned))
    db.execute("""
        create function public.things_to_v2(a public.things, o public.things_v2)
        returns setof public.things_v2 language sql stable parallel safe set search_path = ''
        begin atomic select a.id, a.at, a.kind, a.body, o.pinned; end;
        create function public.things_to_v1(b public.things_v2, o public.things)
        returns setof public.things language sql stable parallel safe set search_path = ''
        begin atomic select b.id, b.at, b.kind, b.body, o.draft; end;
        grant all on all tables in schema public to service_role;
    """)


def register(db: Connection, **options: Any) -> dict[str, Any]:
    names = ["public.things", "public.things_v2", "public.things_to_v2", "public.things_to_v1"]
    answer: dict[str, Any] = call(
        db, "register_pair", "things", *names, key="{id,at,kind}", options=options
    )
    return answer


def fill(db: Connection, number: int = 60, table: str = "things") -> None:
    """Rows in every partition."""
    db.execute(
        f"insert into public.{table} ({SAME}) select g, '2025-12-20'::timestamptz + g * interval "
        "'2 days', chr(97 + g %% 3), 'b' || g from generate_series(1, %s) g", [number],
    )  # fmt: skip


def equal(db: Connection) -> int:
    """Both tables hold the same, told by a full join; give the number of rows."""
    differing = rows(
        db,
        f"select a, b from (select {SAME} from public.things) a full join "
        f"(select {SAME} from public.things_v2) b on (a.id, a.at, a.kind) = (b.id, b.at, b.kind) "
        "where (a.*) is distinct from (b.*) limit 9",
    )
    assert differing == [], (differing, failures(db)[:3])
    return int(one(db, "select count(*) from public.things"))


def settled(db: Connection) -> int:
    found = equal(db)
    assert failures(db) == []
    assert verify(db, "things") == 0
    return found


def writes(db: Connection, table: str) -> None:
    """Every way to write a table, with the tables compared after each."""
    other = "things" if table == "things_v2" else "things_v2"
    mine, theirs = ("pinned", "draft") if table == "things_v2" else ("draft", "pinned")
    of_mine, of_theirs = ("true", "'d'") if table == "things_v2" else ("'d'", "true")
    root = f"public.{table}"
    db.execute(f"update public.{other} set {theirs} = {of_theirs}")
    leaf = str(one(db, f"select tableoid::regclass from {root} where id = 21"))
    statements = [
        f"insert into {root} ({SAME}) values (901, '2026-01-05', 'a', 'new'), "
        "(902, '2026-02-05', 'b', 'new'), (903, '2031-01-01', 'c', 'new')",
        f"update {root} set body = body || '!' where id % 2 = 0",
        f"update {root} set body = 'one' where id = 21",
        # By the name of a leaf.
        f"insert into {leaf} ({SAME}) select id + 1000 * n, at, kind, 'leaf' from {root}, "
        f"generate_series(1, 400) n where id = 21 and {{fits}}",
        f"update {leaf} set body = body || '?', {mine} = {of_mine}",
        f"update {leaf} set body = 'single' where id = 21",
        f"delete from {leaf} where id > 21 and id % 2 = 0",
        f"insert into {leaf} ({SAME}) select id, at, kind, 'up' from {leaf} "
        "on conflict (id, at, kind) do update set body = excluded.body || 'sert'",
        # To another partition, by the root; what only the other table holds goes along.
        f"update {root} set at = at + interval '1 month', id = id + 5000 where id between 3 and 40",
        f"update {root} set kind = chr(97 + (ascii(kind) - 96) % 3) where id > 5000",
        f"update {root} set at = at - interval '1 month' where id = 5004",
        f"with m as (update {root} set at = at + interval '31 days' where id = 5005 returning 1) "
        f"insert into {leaf} ({SAME}) select id + 90000, at, kind, 'cte' from {leaf} "
        "where id = 21 and {fits}",
        f"delete from {root} where id between 5010 and 5020",
        f"insert into {root} ({SAME}) select {SAME} from {root} where id > 5000 "
        "on conflict (id, at, kind) do update set body = 'upserted'",
    ]
    # A hash takes other ids elsewhere: these go where the leaf takes them.
    fits = (
        f"satisfies_hash_partition('{root}'::regclass, 3, (select (regexp_match("
        f"pg_get_expr(relpartbound, oid), 'remainder (\\d)'))[1]::int from pg_class "
        f"where oid = '{leaf}'::regclass), {{id}}, at)"
        if one(db, f"select pg_get_partkeydef('{root}'::regclass)") == "HASH (id, at)"
        else "true"
    )
    for statement in statements:
        new_id = "id + 90000" if "90000" in statement else "id + 1000 * n"
        db.execute(statement.replace("{fits}", fits.replace("{id}", new_id)))
        equal(db)
        assert failures(db) == []
    if db.info.server_version >= 150_000:
        db.execute(
            f"merge into {root} t using (values (901, timestamptz '2026-01-05', 'a'), "
            "(904, timestamptz '2026-03-05', 'a')) n(id, at, kind) on t.id = n.id "
            "when matched then update set at = t.at + interval '40 days' "
            f"when not matched then insert ({SAME}) values (n.id, n.at, n.kind, 'merged')"
        )
        equal(db)
    with db.cursor().copy(f"copy {root} ({SAME}) from stdin") as copy:
        copy.write("7001\t2026-01-09\ta\tcopied\n7002\t2026-02-09\ta\tcopied\n")
    equal(db)
    # Rows that moved have kept what only the other table holds.
    assert one(db, f"select bool_and({theirs} = {of_theirs}) from public.{other} "
                   "where id between 5003 and 5040")  # fmt: skip


@pytest.mark.parametrize(
    ("v1", "v2"), [("range", "plain"), ("plain", "range"), ("hash", "range"), ("plain", "hash")]
)
def test_every_write_of_either_side_is_mirrored_in_every_stage(
    db: Connection, v1: str, v2: str
) -> None:
    create(db, v1, v2)
    fill(db)
    register(db)
    to_stage(db, "live")
    assert settled(db) == 60
    writes(db, "things")
    settled(db)
    db.execute("delete from public.things where id not between 1 and 60 or id % 2 = 1")
    db.execute("truncate public.things_v2")
    assert equal(db) == 0
    fill(db, table="things_v2")
    writes(db, "things_v2")
    for stage in ("rampdown", "complete"):
        verify(db, "things")
        if stage == "rampdown":
            call(db, "set_cohort", "things", {"percentage": 100}, "test")
        call(db, "set_stage", "things", stage, "test", True)
    for table in rows(db, "select t.id::text from crossfade_private.table_tree('public.things') t"):
        with pytest.raises(psycopg.Error, match="read-only archive"):
            db.execute(f"delete from {table[0]}")
    db.execute("update public.things_v2 set body = 'in complete' where id % 2 = 0")
    db.execute("delete from public.things_v2 where id = 902")
    backfill(db, direction="v2_to_v1")
    for _ in range(3):
        verify(db, "things")
        repair(db, follower_only="delete")
    settled(db)
    call(db, "set_stage", "things", "rampdown", "test", True)
    settled(db)
    call(db, "set_stage", "things", "off", "test", True)
    call(db, "unregister_pair", "things", "test")
    assert rows(db, "select tgname from pg_trigger where tgname ~ 'crossfade' and tgrelid in "
                    "(select oid from pg_class where relname like 'things%')") == []  # fmt: skip


JULY = "for values from ('2026-07-01') to ('2026-08-01')"


def live(db: Connection, v1: str = "range", v2: str = "plain") -> None:
    create(db, v1, v2)
    fill(db)
    register(db)
    to_stage(db, "live")


def refresh(db: Connection) -> None:
    """Take partitions in, as an operator does: again while the tables are in use."""
    for _ in range(20):
        try:
            call(db, "refresh_pair", "things")
        except psycopg.errors.LockNotAvailable:
            continue
        return
    pytest.fail("the tables are always in use")


@begins_with(live)
def test_a_new_partition_is_mirrored_before_the_pair_is_refreshed(
    db: Connection, connect: Connect
) -> None:
    # PostgreSQL makes no partition of rows that lie in the default one.
    call(db, "remove_partition", "things", "public.things_rest", "drop", "test")
    stop, errors = threading.Event(), []

    def write(by: int) -> None:
        writer = connect()
        number = by
        try:
            while not stop.is_set():
                number += 2
                table, other = ("things", "things_v2")[:: 1 if by else -1]
                writer.execute(f"insert into public.{table} ({SAME}) values "
                               f"({number}, '2026-01-01'::timestamptz + {number % 20} "
                               "* interval '1 day', 'a', 'live')")  # fmt: skip
                writer.execute(f"update public.{other} set body = body || '!', at = at + interval "
                               f"'1 month' where id = {number}")  # fmt: skip
        except psycopg.Error as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(by,)) for by in (10_000, 10_001)]
    for writer in writers:
        writer.start()
    try:
        db.execute(f"create table public.july partition of public.things {JULY}")
        assert "partition public.july is new" in blockers(db, "rampdown")["mirror_broken"]
        before = one(db, "select count(*) from public.things")
        with db.transaction():
            # By its name, by the root, and moved between it and another one; all in one.
            db.execute(f"insert into public.july ({SAME}) select 800 + g, '2026-07-04', 'a', 'x' "
                       "from generate_series(1, 30) g")  # fmt: skip
            db.execute("update public.july set body = 'y' where id > 820")
            db.execute("update public.july set id = id + 100 where id = 801")
            db.execute("delete from public.july where id = 802")
            db.execute("update public.things set at = '2026-01-09' where id = 803")
            db.execute("update public.things set at = '2026-07-09' where id = 22")
            db.execute("insert into public.things (id, at, kind) values (850, '2026-07-05', 'a')")
            db.execute("update public.things_v2 set pinned = true, body = 'z' where id = 22")
        assert one(db, "select pinned and body = 'z' from public.things_v2 where id = 22")
        equal(db)  # in any snapshot: nothing is behind
        assert one(db, "select count(*) from public.things_v2 where id between 801 and 902") == 30
        # Attached with rows of its own: those are for a backfill.
        db.execute("create table public.june (like public.things including indexes)")
        db.execute(f"insert into public.june ({SAME}) select 700 + g, '2026-06-04', 'a', 'x' "
                   "from generate_series(1, 30) g")  # fmt: skip
        db.execute("alter table public.things attach partition public.june "
                   "for values from ('2026-06-01') to ('2026-07-01')")  # fmt: skip
        refresh(db)
        assert "public.june was attached" in blockers(db, "rampdown")["backfill_needed"]
        backfill(db)
        found = one(
            db, "select count(*) from pg_trigger where tgrelid = 'public.july'::regclass "
            "and tgname like '%crossfade_late%' and tgenabled <> 'D'",
        )  # fmt: skip
        assert found == 0
        writes_to_july = f"insert into public.july ({SAME}) values (860, '2026-07-06', 'b', 'w')"
        db.execute(writes_to_july)
        while one(db, "select count(*) from public.things") < before + 300 and not errors:
            pass
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert errors == []
    settled(db)
    assert set(blockers(db, "rampdown")) <= {"percentage"}


@begins_with(live)
def test_retention_takes_both_sides_along_and_what_is_done_around_it_is_named(
    db: Connection, connect: Connect
) -> None:
    def remove(partition: str, how: str) -> int:
        return int(call(db, "remove_partition", "things", partition, how, "old")["rows"])

    def number(partition: str) -> int:
        return int(one(db, f"select count(*) from public.{partition}"))

    other = connect()
    other.execute("begin; update public.things_1 set body = 'held'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        remove("public.things_1", "detach")
    other.execute("rollback")
    expected = number("things_1")
    assert remove("public.things_1", "detach") == expected > 0
    settled(db)
    # Nobody's any more: it has no trigger, and what is written there stays there.
    assert (
        rows(db, "select tgname from pg_trigger where tgrelid = 'public.things_1'::regclass") == []
    )
    expected = number("things_2_a")
    assert remove("public.things_2_a", "truncate") == expected > 0
    settled(db)
    expected = number("things_2")
    assert remove("public.things_2", "drop") == expected > 0
    assert blockers(db, "rampdown").keys() <= {"percentage"}
    settled(db)
    # A leaf's own TRUNCATE takes its rows alone.
    db.execute("truncate public.things_rest")
    assert settled(db) == number("things_3") > 0
    other.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        other.execute("truncate public.things_3")
    other.execute("rollback")
    # Around it.
    db.execute("alter table public.things detach partition public.things_3")
    assert "partition public.things_3 is gone" in blockers(db, "rampdown")["mirror_broken"]
    ghosts = number("things_v2")
    db.execute("delete from public.things_3")  # still with triggers, which do nothing there
    assert number("things_v2") == ghosts > 0
    refresh(db)
    assert set(blockers(db, "rampdown")) == {"verify_needed", "percentage"}
    assert verify(db, "things") == ghosts
    with pytest.raises(psycopg.Error, match="is no partition of a table"):
        remove("public.things_1", "drop")


def test_owners_triggers_and_foreign_keys_write_leaves(db: Connection) -> None:
    create(db, "range", "range")
    db.execute("""
        create table public.owners (id bigint primary key);
        alter table public.things add foreign key (id) references public.owners on delete cascade;
        insert into public.owners select g from generate_series(1, 2000) g;
        -- A statement on the root in which a leaf is written by its name, before and after rows.
        create function public.also() returns trigger language plpgsql as $$
        begin
          if new.body = 'again' then
            insert into public.things_1 (id, at, kind, body)
            values (new.id + 1000, '2026-01-20', 'a', 'by trigger') on conflict do nothing;
            begin
              update public.things_1 set body = 'undone';
              raise exception 'x';
            exception when raise_exception then null;
            end;
          end if;
          return new;
        end $$;
        create trigger also before insert or update on public.things
          for each row execute function public.also();
        create function public.touch() returns trigger language plpgsql as
          $$ begin new.draft := 'touched'; return new; end $$;
        create trigger touch before update on public.things_3
          for each row execute function public.touch();
    """)
    fill(db)
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    db.execute(
        "insert into public.things (id, at, kind, body) values (100, '2026-01-02', 'a', 'again')"
    )
    db.execute("update public.things set body = 'again' where id in (21, 39)")
    equal(db)
    db.execute("update public.things_v2 set body = body || '#', at = at + interval '35 days'")
    equal(db)
    db.execute("delete from public.owners where id between 20 and 45")
    equal(db)
    assert one(db, "select count(*) from public.things_v2 where id between 20 and 45") == 0
    assert failures(db) == []
    assert verify(db, "things") == 0


REFUSED = {
    "create unlogged table public.lost partition of public.things for values "
    "from ('2027-01-01') to ('2027-02-01')": "public.lost is unlogged",
    "alter table public.things_v2 drop constraint things_v2_pkey": "no immediate unique constraint",
    "create foreign table public.away partition of public.things for values "
    "from ('2028-01-01') to ('2028-02-01') server far": "partition public.away is a foreign table",
}


def test_what_cannot_be_mirrored_is_refused_by_name(db: Connection, template: Template) -> None:
    create(db, "range", "plain")
    # A foreign table can have no unique index, and no sibling has one then.
    db.execute("alter table public.things drop constraint things_pkey")
    with psycopg.connect(template.url(db.info.dbname, "supabase_admin")) as admin:
        admin.execute("create foreign data wrapper far; create server far foreign data wrapper far")
        admin.execute("grant usage on foreign server far to postgres")
    for statement, message in REFUSED.items():
        db.execute(statement)
        with pytest.raises(psycopg.Error, match=re.escape(message)):
            register(db)
    with pytest.raises(psycopg.Error, match=r"is a partition of public\.things: register that"):
        call(db, "register_pair", "things", "public.things_1", "public.things_v2",
             "public.things_to_v2", "public.things_to_v1")  # fmt: skip


def test_a_new_partition_is_fenced_and_archived_before_the_pair_is_refreshed(
    db: Connection, connect: Connect
) -> None:
    create(db, "range", "range")
    fill(db)
    db.execute("alter table public.things_v2 enable row level security; "
               "grant select on public.things_v2_1 to authenticated")  # fmt: skip
    assert "things_v2_1, which authenticated may use by its name" in str(register(db)["warnings"])
    to_stage(db, "complete")
    for name in ("things", "things_v2"):
        db.execute(f"drop table public.{name}_rest")
        db.execute(f"create table public.{name}_july partition of public.{name} {JULY}")
        db.execute(f"grant all on public.{name}_july to service_role")
    with pytest.raises(psycopg.Error, match="read-only archive"):
        db.execute("insert into public.things_july (id, at, kind) values (1, '2026-07-01', 'a')")
    client = connect("service_role")
    client.execute("insert into public.things_v2_july (id, at, kind) values (1, '2026-07-01', 'a')")
    call(db, "engage_kill_switch", "emergency_rollback", "test")
    with pytest.raises(psycopg.Error, match="a kill switch stops writes"):
        client.execute("delete from public.things_v2_july")
    db.execute("delete from public.things_v2_july")


@pytest.mark.parametrize(("v1", "v2"), [("range", "plain"), ("plain", "range")])
def test_what_was_written_to_a_partition_while_it_was_detached_opens_nothing(
    db: Connection, v1: str, v2: str
) -> None:
    """It comes back under its own name, so nothing seems to have changed."""
    table = "things" if v1 == "range" else "things_v2"
    live(db, v1, v2)
    call(db, "set_cohort", "things", {"percentage": 100}, "test")
    assert blockers(db, "rampdown") == {}
    db.execute(f"""alter table {table} detach partition {table}_3;
      insert into {table}_3 ({SAME}) values (4001, '2026-03-11', 'a', 'r');
      delete from {table}_3 where id = 40;
      alter table {table} attach partition {table}_3
        for values from ('2026-03-01') to ('2026-04-01')""")
    found = blockers(db, "rampdown")
    assert f"partition public.{table}_3 was detached and attached again" in found["mirror_broken"]
    refresh(db)
    assert set(blockers(db, "rampdown")) == {"backfill_needed", "verify_needed"}
    backfill(db, direction="v1_to_v2" if table == "things" else "v2_to_v1")
    assert verify(db, "things") == 1  # the row that is gone
    repair(db, follower_only="delete")
    verify(db, "things")
    assert blockers(db, "rampdown") == {}
    settled(db)
