"""A constraint that is checked at COMMIT could refuse what the mirror has already answered for."""

from __future__ import annotations

import pytest

from tests.sql.cases.pairs import (
    Shape,
    blockers,
    create,
    problems,
    register,
    settled,
    to_stage,
)
from tests.sql.conftest import Connection
from tests.sql.control import call
from tests.sql.things_pair import failures

COLUMNS = "id bigint primary key, email text, parent bigint, during tsrange"
SHAPE = Shape(
    v1=COLUMNS,
    v2=COLUMNS,
    to_v2="a.*",
    to_v1="b.*",
    before="create table public.parents (id bigint primary key)",
)
CONSTRAINTS = {
    "unique": "unique (email)",
    "unique over two columns": "unique (email, parent)",
    "exclusion": "exclude using gist (during with &&)",
    "foreign key": "foreign key (parent) references public.parents",
    "foreign key to itself": "foreign key (parent) references {t}",
}


@pytest.mark.parametrize("table", ["public.things", "public.things_v2"])
@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_an_initially_deferred_constraint_is_refused_by_name(
    scratch: Connection, kind: str, table: str
) -> None:
    constraint = CONSTRAINTS[kind].format(t=table)
    found = problems(
        scratch,
        SHAPE.but(
            after=f'alter table {table} add constraint "At the end" {constraint} '
            "deferrable initially deferred"
        ),
    )
    assert "At the end" in found
    assert table in found
    assert "deferred" in found


def test_an_initially_deferred_key_is_refused_by_name_beside_one_that_is_not(
    scratch: Connection,
) -> None:
    found = problems(
        scratch,
        SHAPE.but(
            v2=COLUMNS.replace("primary key", "not null unique"),
            after='alter table public.things_v2 add constraint "At the end" primary key (id) '
            "deferrable initially deferred",
        ),
    )
    assert "At the end" in found


@pytest.mark.parametrize("table", ["public.things", "public.things_v2"])
@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_a_constraint_that_can_be_deferred_and_is_not_may_stay(
    scratch: Connection, kind: str, table: str
) -> None:
    constraint = CONSTRAINTS[kind].format(t=table)
    create(
        scratch,
        SHAPE.but(after=f"alter table {table} add constraint fine {constraint} deferrable"),
    )
    register(scratch)
    call(scratch, "set_stage", "things", "dualwrite", "test")
    scratch.execute("insert into public.things (id, email) values (1, 'a')")
    assert settled(scratch, "id, email") == [(1, "a")]


@pytest.mark.parametrize("table", ["public.things", "public.things_v2"])
@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_one_that_is_added_later_is_named_before_the_next_stage(
    db: Connection, kind: str, table: str
) -> None:
    create(db, SHAPE)
    register(db)
    to_stage(db, "dualwrite")
    assert blockers(db, "shadow").keys() <= {"backfill_needed"}
    constraint = CONSTRAINTS[kind].format(t=table)
    db.execute(
        f'alter table {table} add constraint "At the end" {constraint} '
        "deferrable initially deferred"
    )
    found = blockers(db, "shadow")
    assert any("At the end" in message for message in found.values()), found


def test_a_unique_constraint_that_is_checked_at_once_is_recorded(db: Connection) -> None:
    create(db, SHAPE.but(after="alter table public.things_v2 add unique (email)"))
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things (id, email) values (1, 'a')")
    db.execute("insert into public.things (id, email) values (2, 'a'), (3, 'b')")
    assert [(key, code) for key, _, code in failures(db)] == [({"id": 2}, "23505")]
    db.execute("update public.things set email = 'c' where id = 2")
    assert call(db, "repair", "things")["remaining"] == 0
    assert settled(db, "id, email") == [(1, "a"), (2, "c"), (3, "b")]
