"""An owner's BEFORE trigger returns null for mirrored rows: nothing of that stays unnoticed."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import (
    Shape,
    backfill,
    both,
    create,
    like,
    mirror,
    register,
    repair,
    to_stage,
)
from tests.sql.conftest import Connection, Its, begins_with
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

SHAPE = like("id bigint primary key, body text")
SIDES = [("things", "things_v2"), ("things_v2", "things")]
# Statements on one table, of which the other drops what they make of its rows 7 to 9.
STATEMENTS = {
    "DELETE of one": ("delete from public.{} where id = 7", [7]),
    "DELETE of some": ("delete from public.{} where id > 5", [7, 8, 9]),
    "DELETE of many": ("delete from public.{}", [7, 8, 9]),
    "TRUNCATE": ("truncate public.{}", range(1, 41)),
    "UPDATE of one": ("update public.{} set body = 'new' where id = 7", [7]),
    "UPDATE of some": ("update public.{} set body = 'new' where id between 5 and 9", [7, 8, 9]),
    "UPDATE of many": ("update public.{} set body = 'new'", [7, 8, 9]),
    "move of one": ("update public.{} set id = 107 where id = 7", [7, 107]),
    "move of some": (
        "update public.{} set id = id + 100 where id between 5 and 9",
        [7, 107, 8, 108, 9, 109],
    ),
    "move and edit": ("update public.{} set id = 107, body = 'new' where id = 7", [7, 107]),
    "upsert": (
        "insert into public.{} values (7, 'new') on conflict (id) do update "
        "set body = excluded.body",
        [7],
    ),
    "MERGE": (
        "merge into public.{} t using generate_series(5, 9) g on t.id = g "
        "when matched and g < 8 then update set body = 'new' when matched then delete",
        [7, 8, 9],
    ),
}
KEEP = """
  create function public.keep() returns trigger language plpgsql as $$ begin
    if old.body like 'kept%' then
      return null;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
  end $$;
  create trigger keep before update or delete on public.{}
  for each row execute function public.keep()
"""


def begin(
    db: Connection, other: str, trigger: str = KEEP, shape: Shape = SHAPE, **options: str
) -> None:
    create(db, shape)
    register(db, **options)
    to_stage(db, "dualwrite")
    db.execute(
        "insert into public.things select g, case when g between 7 and 9 then 'kept' else 'x' end "
        "from generate_series(1, 40) g"
    )
    db.execute(trigger.format(other))


def open_keys(db: Connection) -> list[int]:
    return sorted(key["id"] for key, _, _ in failures(db))


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize(("table", "other"), SIDES)
@begins_with(begin, Its("other"))
def test_what_is_dropped_is_an_open_failure_and_the_rest_is_mirrored(
    db: Connection, table: str, other: str, statement: str
) -> None:
    text, keys = STATEMENTS[statement]
    db.execute(text.format(table))
    assert open_keys(db) == sorted(keys)
    assert {code for _, _, code in failures(db)} == {"CF017"}
    differing = rows(
        db,
        "select distinct coalesce(a.id, b.id) from public.things a full join public.things_v2 b "
        "on a.id = b.id where (a.*) is distinct from (b.*) order by 1",
    )
    assert [key for (key,) in differing] == sorted(keys)
    assert repair(db)["remaining"] > 0, "it is still dropped"
    db.execute(f"drop trigger keep on public.{other}")
    assert repair(db, follower_only="delete")["remaining"] == 0
    both(db)
    assert verify(db, "things") == 0


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize(("table", "other"), SIDES)
@begins_with(begin, Its("other"), failure_policy="raise")
def test_by_policy_raise_the_writer_hears_of_it_and_nothing_is_half_done(
    db: Connection, table: str, other: str, statement: str
) -> None:
    before = both(db)
    with pytest.raises(psycopg.Error) as error, db.transaction():
        db.execute(STATEMENTS[statement][0].format(table))
    assert error.value.sqlstate == "CF017"
    assert f"public.{other}" in str(error.value)
    assert both(db) == before
    assert failures(db) == []


@pytest.mark.parametrize(("table", "other"), SIDES)
def test_soft_deletes_of_one_table_alone_are_noticed(
    db: Connection, table: str, other: str
) -> None:
    begin(
        db,
        other,
        """
          create function public.keep() returns trigger language plpgsql as $$ begin
            update public.{0} set body = 'deleted' where id = old.id;
            return null;
          end $$;
          create trigger keep before delete on public.{0}
          for each row execute function public.keep()
        """,
    )
    db.execute(f"delete from public.{table} where id between 6 and 8")
    assert set(open_keys(db)) == {6, 7, 8}
    assert rows(db, f"select id from public.{table} where id between 6 and 8") == []


@pytest.mark.parametrize(("table", "other"), SIDES)
def test_a_trigger_that_writes_another_value_drops_nothing(
    db: Connection, table: str, other: str
) -> None:
    begin(
        db,
        other,
        """
          create function public.keep() returns trigger language plpgsql as $$ begin
            new.body := lower(new.body);
            return new;
          end $$;
          create trigger keep before insert or update on public.{0}
          for each row execute function public.keep()
        """,
    )
    db.execute(f"update public.{table} set body = 'ONE' where id = 1")
    db.execute(f"update public.{table} set body = case when id < 3 then 'TWO' else body end")
    db.execute(f"update public.{table} set id = 102, body = 'MOVED' where id = 2")
    db.execute(f"insert into public.{table} values (101, 'NEW')")
    assert failures(db) == []


@pytest.mark.parametrize(("table", "other"), SIDES)
def test_a_trigger_for_some_columns_that_drops_is_noticed(
    db: Connection, table: str, other: str
) -> None:
    create(db, SHAPE)
    db.execute(KEEP.format(other).replace("before update or", "before update of body or"))
    register(db)
    to_stage(db, "dualwrite")
    db.execute(
        f"insert into public.{table} select g, case when g < 3 then 'kept' else 'x' end "
        "from generate_series(1, 20) g"
    )
    db.execute(f"update public.{table} set body = 'new'")
    assert open_keys(db) == [1, 2]
    db.execute(f"delete from public.{table}")
    assert open_keys(db) == [1, 2]
    assert rows(db, f"select id from public.{other} order by id") == [(1,), (2,)]


def test_a_dropped_delete_of_a_noted_one_stays_noted(db: Connection) -> None:
    begin(db, "things_v2")
    mirror(db, "log_only")
    db.execute("delete from public.things where id = 7")
    db.execute("insert into public.things values (7, 'another')")
    assert ({"id": 7}, "DELETE", "LOGGED") in failures(db)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
@begins_with(begin, "things")
def test_both_tables_are_truncated_above_read_committed(db: Connection, isolation: str) -> None:
    db.execute("drop trigger keep on public.things")
    backfill(db)
    db.execute(f"begin isolation level {isolation}")
    db.execute("select 1 from public.things limit 1")
    db.execute("truncate public.things, public.things_v2")
    db.execute("commit")
    assert both(db) == []
    db.execute("insert into public.things_v2 values (1, 'again')")
    db.execute(f"begin isolation level {isolation}")
    db.execute("truncate public.things")
    db.execute("commit")
    assert both(db) == []
    assert failures(db) == []


def test_a_mirrored_truncate_obeys_policy_raise(db: Connection) -> None:
    begin(db, "things", failure_policy="raise")
    db.execute("drop trigger keep on public.things")
    db.execute("create table public.likes (thing bigint references public.things)")
    db.execute("insert into public.likes values (3)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation), db.transaction():
        db.execute("truncate public.things_v2")
    assert len(both(db)) == 40


# Statements after which the converter gives no row for things that had a counterpart.
LEFT_OUT = {
    "of one": ("update public.things set body = 'none' where id = 7", [7]),
    "of some": ("update public.things set body = 'none' where id between 5 and 9", [7, 8, 9]),
    "of many": ("update public.things set body = 'none'", [7, 8, 9]),
    "by a move of one": ("update public.things set id = 107, body = 'none' where id = 7", [7, 107]),
    "by a move of some": (
        "update public.things set id = id + 100, body = 'none' where id between 5 and 9",
        [7, 107, 8, 108, 9, 109],
    ),
}
SIEVE = SHAPE.but(to_v2="a.* where a.body <> 'none'")


@pytest.mark.parametrize("statement", LEFT_OUT)
@begins_with(begin, "things_v2", shape=SIEVE)
def test_a_counterpart_that_should_go_but_is_kept_is_an_open_failure(
    db: Connection, statement: str
) -> None:
    text, keys = LEFT_OUT[statement]
    db.execute(text)
    assert {code for _, _, code in failures(db)} == {"CF017"}
    assert open_keys(db) == sorted(keys)
    db.execute("drop trigger keep on public.things_v2")
    assert repair(db, follower_only="delete")["remaining"] == 0
    assert verify(db, "things") == 0


@pytest.mark.parametrize("statement", LEFT_OUT)
@begins_with(begin, "things_v2", shape=SIEVE, failure_policy="raise")
def test_a_counterpart_that_should_go_but_is_kept_is_told_by_policy_raise(
    db: Connection, statement: str
) -> None:
    before = both(db)
    with pytest.raises(psycopg.Error) as error, db.transaction():
        db.execute(LEFT_OUT[statement][0])
    assert error.value.sqlstate == "CF017"
    assert both(db) == before


BACK = """
  create function public.beside() returns trigger language plpgsql as $$ begin
    update public.things_v2 set body = 'beside' where id = old.id;
    return null;
  end $$;
  create trigger beside after update on public.things for each row
  when (pg_trigger_depth() = 0) execute function public.beside();
  create function public.keep() returns trigger language plpgsql as $$ begin
    return case when new.body = 'beside' then null else new end;
  end $$;
  create trigger keep before update on public.things
  for each row execute function public.keep()
"""


@pytest.mark.parametrize("dropping", [True, False])
@begins_with(begin, "things_v2", BACK)
def test_what_a_trigger_wrote_beside_a_move_comes_back_or_is_an_open_failure(
    db: Connection, dropping: bool
) -> None:
    if not dropping:
        db.execute("drop trigger keep on public.things")
    db.execute("update public.things set id = 107 where id = 7")
    expected = ("kept", [107]) if dropping else ("beside", [])
    assert rows(db, "select body from public.things where id = 107") == [expected[:1]]
    assert rows(db, "select body from public.things_v2 where id = 107") == [("beside",)]
    assert open_keys(db) == expected[1]


def test_what_a_trigger_wrote_beside_a_move_obeys_policy_raise(db: Connection) -> None:
    begin(db, "things_v2", BACK, failure_policy="raise")
    before = both(db)
    with pytest.raises(psycopg.Error, match=r"rule of public\.things dropped") as error:
        db.execute("update public.things set id = 107 where id = 7")
    assert error.value.sqlstate == "CF017"
    assert both(db) == before
