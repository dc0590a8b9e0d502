"""A row of V2 leaves what V1 can hold: the foreign key of V1 takes its children only there."""

from __future__ import annotations

import pytest

from tests.sql.cases.pairs import Shape, backfill, create, register
from tests.sql.conftest import Connection, begins_with, on_both_ends
from tests.sql.control import call
from tests.sql.notes_pair import rows
from tests.sql.things_pair import failures, verify

pytestmark = on_both_ends

PARENTS = Shape(
    v1="id integer primary key, body text",
    v2="id bigint primary key, body text",
    to_v2="a.id::bigint, a.body",
    to_v1="case when b.id <= 2147483647 then b.id::integer end, b.body"
    " where b.id <= 2147483647 and b.body <> 'hidden'",
)
CHILD = (
    "id bigint primary key, parent {} references public.parents{}"
    " on delete cascade on update cascade"
)
CHILDREN = Shape(
    v1=CHILD.format("integer", ""),
    v2=CHILD.format("bigint", "_v2"),
    to_v2="a.id, a.parent::bigint",
    to_v1="b.id, case when b.parent <= 2147483647 then b.parent::integer end"
    " where b.parent <= 2147483647 and exists"
    " (select from public.parents_v2 p where p.id = b.parent and p.body <> 'hidden')",
)
LEAVING = [
    "update public.parents_v2 set body = 'hidden' where id = 1",
    "update public.parents_v2 set id = 3000000001 where id = 1",
    "update public.parents_v2 set id = 3000000001, body = 'x' where id = 1",
]


def family(db: Connection) -> None:
    """Children 1 to 12 of parent 1, and 13 of parent 2."""
    for name, shape in (("parents", PARENTS), ("children", CHILDREN)):
        create(db, shape, name)
        register(db, name)
    db.execute("insert into parents values (1, 'a'), (2, 'b')")
    db.execute(
        "insert into children select g, case when g < 13 then 1 else 2 end"
        " from generate_series(1, 13) g"
    )
    call(db, "set_group_stage", "parents", "dualwrite", "test")
    for name in ("parents", "children"):
        backfill(db, name)


def ids(db: Connection, table: str) -> list[int]:
    return [row[0] for row in rows(db, f"select id from {table} order by id")]


@pytest.mark.parametrize("statement", LEAVING)
@begins_with(family)
def test_a_parent_that_leaves_takes_no_child_of_its_own_side_along(
    db: Connection, statement: str
) -> None:
    db.execute(statement)
    assert (ids(db, "parents"), ids(db, "children")) == ([2], [13])
    assert ids(db, "children_v2") == list(range(1, 14))
    assert failures(db) == []
    assert (verify(db, "parents"), verify(db, "children")) == (0, 0)


@begins_with(family)
def test_a_parent_that_is_deleted_takes_its_children_on_both_sides(db: Connection) -> None:
    db.execute("delete from parents_v2 where id = 1")
    assert (ids(db, "children"), ids(db, "children_v2")) == ([13], [13])
    db.execute("delete from parents where id = 2")
    assert (ids(db, "parents_v2"), ids(db, "children_v2")) == ([], [])
    assert failures(db) == []


@begins_with(family)
def test_a_child_whose_parent_stays_goes_with_the_cascade_of_a_client_of_v1(db: Connection) -> None:
    """The converter gives a row for it until its parent goes as well."""
    db.execute("alter table children_v2 drop constraint children_v2_parent_fkey")
    db.execute("delete from parents where id = 1")
    assert (ids(db, "children"), ids(db, "children_v2")) == ([13], [13])
