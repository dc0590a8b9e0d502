"""A row that one table alone has stays somebody else's, also when this transaction edited it."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.cases.pairs import create, like, register, to_stage, unseen
from tests.sql.conftest import Connection
from tests.sql.notes_pair import rows

# body is refused by the other table, so the row stands alone and every edit of it is noted.
SHAPE = like(
    "id bigint primary key, body text, note text",
    after="""
      alter table public.things add constraint v1_short check (body <> 'only in v2');
      alter table public.things_v2 add constraint v2_short check (body <> 'only in v1');
    """,
)
SIDES = [("things", "things_v2", "only in v1"), ("things_v2", "things", "only in v2")]

# Writes to the other table that want the key of the lone row, 1, for themselves.
TAKERS = {
    "an insert": "insert into {t} values (1, 'mine', 'x')",
    "many inserts": "insert into {t} select g, 'mine', 'x' from generate_series(101, 120) g "
    "union all select 1, 'mine', 'x'",
    "a move": "update {t} set id = 1 where id = 2",
    "many moves": "update {t} set id = case id when 2 then 1 else id + 100 end "
    "where id between 2 and 20",
    "a with query": "with a as (update {s} set note = 'z' where id = 1) "
    "insert into {t} values (1, 'mine', 'x')",
    "a with query that moves": "with a as (update {s} set note = 'z' where id = 1) "
    "update {t} set id = 1 where id = 2",
}


@pytest.fixture
def lone(db: Connection) -> Connection:
    """A pair in dualwrite whose rows 1 are different ones, each in one table only."""
    create(db, SHAPE)
    register(db)
    to_stage(db, "dualwrite")
    db.execute("insert into public.things select g, 'b', 'n' from generate_series(2, 20) g")
    return db


# A trigger of the owner's that writes the row that was just written, so that the mirror carries its
# edit over before it comes to the statement itself.
AGAIN = """
create function public.again_{t}() returns trigger language plpgsql as $$ begin
  update public.{t} set note = note || '!' where id = new.id; return null;
end $$;
create trigger again after insert or update of id on public.{t}
for each row execute function public.again_{t}();
"""


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("taker", TAKERS)
def test_a_key_that_a_row_of_the_other_table_has_is_not_to_be_had(
    lone: Connection, taker: str, *, again: bool
) -> None:
    if again:
        lone.execute(AGAIN.format(t="things") + AGAIN.format(t="things_v2"))
    for table, other, body in SIDES:
        with unseen(lone):
            lone.execute("delete from public.things where id = 1")
            lone.execute("delete from public.things_v2 where id = 1")
            lone.execute(f"insert into public.{table} values (1, '{body}', 'n')")
        before = rows(lone, f"select * from public.{table} order by id")
        for edit in ("select 1", f"update public.{table} set note = 'y' where id = 1"):
            wanted = TAKERS[taker].format(s=f"public.{table}", t=f"public.{other}")
            with pytest.raises(psycopg.errors.UniqueViolation):
                lone.execute(f"begin; {edit}; {wanted}; commit")
            lone.execute("rollback")
            assert rows(lone, f"select * from public.{table} order by id") == before
