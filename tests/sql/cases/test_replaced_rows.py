"""One statement deletes rows and inserts others with their keys: those inherit nothing."""

from __future__ import annotations

import pytest

from tests.sql.cases.pairs import TWO_SIDED, dualwrite, settled
from tests.sql.conftest import Connection
from tests.sql.notes_pair import rows

# What the transaction did to rows 1 to {n} before; {s} is the table of the statement.
BEFORE = {
    "nothing": "select",
    "an edit": "update {s} set body = 'x' where id <= {n}",
    "an edit of the counterpart": "update {t} set body = 'x' where id <= {n}",
    "an edit of what only the counterpart holds": "update {t} set {only} = 'x' where id <= {n}",
    "another row": "delete from {s} where id <= {n}; insert into {s} (id, body) "
    "select g, 'x' from generate_series(1, {n}) g; update {t} set {only} = 'x' where id <= {n}",
    "a savepoint": "savepoint a; update {s} set body = 'x' where id <= {n}; release a",
    "a savepoint taken back": "update {t} set body = 'w' where id <= {n}; savepoint a; "
    "update {s} set body = 'x' where id <= {n}; rollback to a",
}
SHAPE = TWO_SIDED.but(v2="id bigint primary key, body text, pinned text")
SIDES = [("things", "things_v2", "pinned"), ("things_v2", "things", "draft")]


@pytest.mark.parametrize("before", BEFORE)
def test_a_row_that_replaces_another_one_inherits_nothing(db: Connection, before: str) -> None:
    dualwrite(db, SHAPE)
    for table, other, only in SIDES:
        for many in (1, 20):
            db.execute("delete from public.things")
            db.execute("insert into public.things select g, 'b', 'd' from generate_series(1, 21) g")
            db.execute("update public.things_v2 set pinned = 'p'")
            with db.transaction():
                db.execute(BEFORE[before].format(s=table, t=other, only=only, n=many))
                db.execute(
                    f"with gone as (delete from {table} where id <= {many} returning id) "
                    f"insert into {table} (id, body) select id, 'new' from gone"
                )
            found = rows(db, f"select distinct id <= {many}, body, {only} from {other} order by 1")
            assert found == [(False, "b", only[0]), (True, "new", None)], (table, many)
            settled(db)
