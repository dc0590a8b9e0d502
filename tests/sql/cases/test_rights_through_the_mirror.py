"""Nobody changes or takes, through the mirror, a row that they could not change directly."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from tests.sql.cases.pairs import (
    Shape,
    backfill,
    both,
    create,
    mirror,
    objection,
    register,
    repair,
    settled,
    to_stage,
    unseen,
    warnings,
)
from tests.sql.conftest import Connect, Connection
from tests.sql.control import call, one, refused
from tests.sql.notes_pair import rows
from tests.sql.things_pair import ADA, failures, verify

BOB = "00000000-0000-4000-8000-0000000000b2"
TENANTS = Shape(
    v1="id bigint primary key, owner uuid default auth.uid(), body text",
    v2="id bigint primary key, owner uuid default auth.uid(), "
    "body text constraint fits check (body <> 'too long for V2'), pinned boolean",
    to_v2="a.id, a.owner, a.body, o.pinned",
    to_v1="b.id, b.owner, b.body",
    after="".join(
        f"""
        alter table public.{table} enable row level security;
        create policy "Own rows" on public.{table} to authenticated
          using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
        """
        for table in ("things", "things_v2")
    ),
)
EVERYTHING = "id, owner::text, body"

# Ways to take key 1, which only the other table has; row 2 is the attacker's own.
TAKEOVERS = {
    "insert": "insert into {t} (id, body) values (1, 'mine now')",
    "insert of many": "insert into {t} (id, body) select 1, 'mine now' "
    "union all select g, 'mine' from generate_series(100, 130) g",
    "upsert that does nothing": "insert into {t} (id, body) values (1, 'mine now') "
    "on conflict do nothing",
    "upsert": "insert into {t} (id, body) values (1, 'mine now'), (2, 'mine') "
    "on conflict (id) do update set body = excluded.body",
    "upsert that moves": "insert into {t} (id, body) values (2, 'mine') "
    "on conflict (id) do update set id = 1",
    "merge": "merge into {t} t using (values (1)) s (id) on t.id = s.id "
    "when matched then update set body = 'mine now' "
    "when not matched then insert (id, body) values (s.id, 'mine now')",
    "move": "update {t} set id = 1 where id = 2",
    "move with an edit": "update {t} set id = 1, body = 'mine now' where id = 2",
    "there and back": "update {t} set id = 1 where id = 2; update {t} set id = 2 where id = 1",
    "insert and delete": "insert into {t} (id, body) values (1, 'x'); delete from {t} where id = 1",
    "cte": "with a as (delete from {t} where id = 2 returning body) "
    "insert into {t} (id, body) select 1, body from a",
    "delete and insert": "delete from {t} where id = 2; "
    "insert into {t} (id, body) values (1, 'mine now')",
    "two statements with a savepoint": "insert into {t} (id, body) values (50, 'a'); savepoint s; "
    "update {t} set id = 1 where id = 50; release s",
    "in a function": "select public.take('{t}')",
    "row locks": "select * from {t} for update; insert into {t} (id, body) values (1, 'mine now')",
}
TAKE = """
create function public.take(t text) returns void language plpgsql as $$
begin
  begin
    execute format('insert into %s (id, body) values (1, ''mine now'')', t);
  exception when division_by_zero then
    null;
  end;
end $$;
create function public.count_view(t text) returns void language plpgsql
security definer set search_path = '' as $$
begin
  execute format('update %s set body = body where id = 1', t);
end $$
"""
# Anybody may cause a write of her row before, as a counter of views does: it is hers all the same.
BEFORE = ("", "select public.count_view('{s}'); ")


def only_there(db: Connection, how: str, table: str) -> None:
    """Let Ada's row 1 exist in one table only, as it happens."""
    other = "things_v2" if table == "things" else "things"
    if how == "refused by V2":
        db.execute("insert into public.things values (1, %s, 'too long for V2')", [ADA])
        assert len(failures(db)) == 1
    else:
        db.execute(
            f"insert into public.{table} (id, owner, body) values (1, %s, 'a secret')", [ADA]
        )
        with unseen(db):
            db.execute(f"delete from public.{other} where id = 1")


def attempt(user: Connection, statements: str) -> str:
    """Try it in one transaction; give the SQLSTATE, or what came of it."""
    try:
        with user.transaction():
            for statement in statements.split("; "):
                user.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate or ""
    return "done"


@pytest.mark.parametrize(
    ("stage", "policy", "how", "target"),
    [
        ("dualwrite", "record", "missing", "things_v2"),
        ("dualwrite", "raise", "missing", "things_v2"),
        ("dualwrite", "record", "refused by V2", "things_v2"),
        ("shadow", "record", "missing", "things_v2"),
        ("live", "record", "missing", "things_v2"),
        ("rampdown", "raise", "missing", "things_v2"),
        ("rampdown", "record", "refused by V2", "things_v2"),
        ("dualwrite", "record", "missing", "things"),
        ("dualwrite", "raise", "missing", "things"),
        ("live", "record", "missing", "things"),
    ],
)
def test_a_row_that_only_the_other_table_has_cannot_be_taken_by_its_key(
    db: Connection, connect: Connect, stage: str, policy: str, how: str, target: str
) -> None:
    create(db, TENANTS.but(after=TENANTS.after + TAKE))
    register(db, failure_policy=policy)
    to_stage(db, stage)
    if stage == "dualwrite":
        backfill(db)
    source = "things" if target == "things_v2" else "things_v2"
    only_there(db, how, source)
    bob = connect("authenticated", sub=BOB)
    bob.execute(f"insert into public.{target} (id, body) values (2, 'his own')")
    ada_s = rows(db, f"select {EVERYTHING} from public.{source} where id = 1")
    done = {}
    for before, (kind, statement) in itertools.product(BEFORE, TAKEOVERS.items()):
        if kind == "insert of many" and how.startswith("refused"):
            statement = statement.replace("100, 130", "200, 203")
        takeover = f"{before}{statement}".format(t=f"public.{target}", s=f"public.{source}")
        outcome = attempt(bob, takeover)
        stolen = rows(db, f"select {EVERYTHING} from public.{target} where id = 1")
        now = rows(db, f"select {EVERYTHING} from public.{source} where id = 1")
        if outcome != "23505" or stolen or now != ada_s:
            done[before + kind] = (outcome, stolen, now)
            db.execute(f"delete from public.{target} where id = 1")
    assert done == {}
    # What is hers is made whole from her row, and his is still his.
    if how == "refused by V2":
        db.execute("alter table public.things_v2 drop constraint fits")
        repair(db)
    else:
        db.execute(f"update public.{source} set body = body || '!' where id = 1")
    found = both(db, EVERYTHING)
    assert [row[:2] for row in found[:2]] == [(1, ADA), (2, BOB)]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", None])
def test_a_key_of_the_other_table_is_a_duplicate_for_every_role(
    db: Connection, connect: Connect, role: str | None
) -> None:
    create(db, TENANTS.but(after=""))
    db.execute("grant all on public.things, public.things_v2 to anon")
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    only_there(db, "missing", "things")
    before = rows(db, "select * from public.things")
    session = connect(role)
    with pytest.raises(psycopg.errors.UniqueViolation):
        session.execute("insert into public.things_v2 (id, body) values (1, 'mine now')")
    with (
        pytest.raises(psycopg.errors.UniqueViolation),
        session.cursor().copy("copy public.things_v2 (id, body) from stdin") as copy,
    ):
        copy.write_row((1, "mine now"))
    assert rows(db, "select * from public.things") == before


def test_rows_that_agree_already_may_be_inserted_again(db: Connection, connect: Connect) -> None:
    create(db, TENANTS)
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    only_there(db, "missing", "things")
    ada = connect("authenticated", sub=ADA)
    ada.execute("insert into public.things_v2 (id, body) values (1, 'a secret')")
    assert settled(db, EVERYTHING) == [(1, ADA, "a secret")]


def test_a_transaction_may_replace_what_it_wrote_itself(db: Connection, connect: Connect) -> None:
    create(db, TENANTS)
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    ada = connect("authenticated", sub=ADA)
    with ada.transaction():
        ada.execute("insert into public.things (id, body) values (1, 'a')")
        ada.execute("delete from public.things where id = 1")
        ada.execute("insert into public.things_v2 (id, body) values (1, 'b')")
        ada.execute("savepoint s")
        ada.execute("update public.things set id = 2 where id = 1")
        ada.execute("insert into public.things_v2 (id, body) values (1, 'c')")
        ada.execute("release s")
    assert settled(db, "id, body") == [(1, "c"), (2, "b")]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_two_users_who_take_one_free_key_at_once_cannot_both_have_it(
    db: Connection, connect: Connect, level: str
) -> None:
    create(db, TENANTS)
    register(db)
    to_stage(db, "dualwrite")
    backfill(db)
    ada, bob = connect("authenticated", sub=ADA), connect("authenticated", sub=BOB)
    ada.execute(f"begin isolation level {level}")
    bob.execute(f"begin isolation level {level}")
    bob.execute("select count(*) from public.things_v2")
    ada.execute("insert into public.things (id, body) values (1, 'hers')")
    bob.execute("set local lock_timeout = '200ms'")
    try:
        bob.execute("insert into public.things_v2 (id, body) values (1, 'his')")
        bob.execute("commit")
        told = "done"
    except psycopg.Error as error:
        told = error.sqlstate or ""
        bob.execute("rollback")
    assert told in ("55P03", "23505", "40001")
    ada.execute("commit")
    with pytest.raises(psycopg.errors.UniqueViolation):
        bob.execute("insert into public.things_v2 (id, body) values (1, 'his')")
    assert settled(db, EVERYTHING) == [(1, ADA, "hers")]


# V2 is closed -------------------------------------------------------------------------------------

WRITES = [
    "insert into public.things_v2 (id, body) values (100, 'x')",
    "update public.things_v2 set body = 'x' where false",
    "update public.things_v2 set body = 'x'",
    "delete from public.things_v2",
    "insert into public.things_v2 (id, body) values (1, 'x') on conflict do nothing",
    "merge into public.things_v2 t using (values (1)) s (id) on t.id = s.id "
    "when matched then delete when not matched then insert (id) values (s.id)",
    "with a as (delete from public.things_v2 returning id) select count(*) from a",
    "select public.as_owner()",
    "update public.v2_view set body = 'x'",
]
AS_OWNER = """
create function public.as_owner() returns void language sql security definer set search_path = ''
as $$ insert into public.things_v2 (id, body) values (100, 'x') $$;
create view public.v2_view with (security_invoker = true) as select * from public.things_v2;
grant all on public.things, public.things_v2, public.v2_view to anon, authenticated, service_role
"""


def doors(connect: Connect) -> dict[tuple[str, str], str]:
    """Try every write as every API role; give what each is told."""
    told = {}
    for role in ("anon", "authenticated", "service_role"):
        user = connect(role, sub=ADA)
        for write in WRITES:
            try:
                with user.transaction(force_rollback=True):
                    user.execute(write)
                told[role, write] = "done"
            except psycopg.Error as error:
                detail = error.diag.message_detail or ""
                told[role, write] = (
                    f"{error.sqlstate} CF_CLOSED" if "CF_CLOSED" in detail else f"{error}"
                )
        user.close()
    return told


def closed(connect: Connect) -> bool:
    found = set(doors(connect).values())
    assert found in ({"PT409 CF_CLOSED"}, {"done"}), doors(connect)
    return found == {"PT409 CF_CLOSED"}


@pytest.fixture
def open_tables(db: Connection) -> Connection:
    """The pair without row-level security, registered, with five rows in V1."""
    create(db, TENANTS.but(after=AS_OWNER))
    db.execute("insert into public.things select g, %s, 'n' from generate_series(1, 5) g", [ADA])
    register(db)
    return db


def test_v2_is_closed_to_api_roles_until_it_has_been_filled(
    open_tables: Connection, connect: Connect
) -> None:
    db = open_tables
    assert closed(connect), "in stage off"
    to_stage(db, "dualwrite")
    assert closed(connect), "before the backfill"
    user = connect("authenticated", sub=ADA)
    user.execute("insert into public.things (id, body) values (6, 'by V1')")
    user.execute("update public.things set body = 'by V1' where id in (1, 6)")
    assert one(user, "select count(*) from public.things_v2") == 2, "reading is open"
    db.execute("insert into public.things_v2 (id, owner, body) values (7, null, 'by the owner')")
    call(db, "set_setting", "batch_max_rows", "3", "test")
    run = call(db, "start_backfill", "things")["run"]["id"]
    call(db, "backfill_batch", run)
    assert closed(connect), "in the middle of the backfill"
    while call(db, "backfill_batch", run)["state"] != "finished":
        pass
    assert not closed(connect)
    user.execute("insert into public.things_v2 (id, body) values (8, 'by V2')")
    assert len(settled(db, EVERYTHING)) == 8
    # A second backfill closes nothing.
    run = call(db, "start_backfill", "things")["run"]["id"]
    assert not closed(connect)
    call(db, "control_run", run, "cancel", "test")
    assert not closed(connect)


@pytest.mark.parametrize("stage", ["dualwrite", "shadow"])
def test_v2_is_closed_after_log_only_until_it_is_drained(
    open_tables: Connection, connect: Connect, stage: str
) -> None:
    db = open_tables
    to_stage(db, stage)
    if stage == "dualwrite":
        backfill(db)
    assert not closed(connect)
    mirror(db, "log_only")
    assert closed(connect)
    user = connect("authenticated", sub=ADA)
    user.execute("insert into public.things (id, body) values (6, 'noted'), (7, 'noted')")
    user.execute("update public.things set body = 'noted' where id = 1")
    mirror(db, "both")
    assert closed(connect), "what was noted is not in V2 yet"
    user.execute("update public.things set body = 'mirrored' where id = 2")
    assert repair(db, max_rows=1)["remaining"] == 2
    assert closed(connect)
    assert repair(db)["remaining"] == 0
    assert not closed(connect)
    assert len(settled(db, EVERYTHING)) == 7


def test_v2_is_closed_again_when_the_pair_was_off(
    open_tables: Connection, connect: Connect
) -> None:
    db = open_tables
    to_stage(db, "dualwrite")
    backfill(db)
    call(db, "set_stage", "things", "off", "test")
    assert closed(connect)
    connect("authenticated", sub=ADA).execute("update public.things set body = 'unmirrored'")
    call(db, "set_stage", "things", "dualwrite", "test")
    assert closed(connect)
    backfill(db)
    # Its rows are of the time before: whose they are by now only a verify pass can tell.
    assert closed(connect)
    assert verify(db, "things") > 0
    repair(db)
    assert closed(connect)
    assert verify(db, "things") == 0
    assert not closed(connect)


def test_a_closed_v2_stops_no_referential_action(db: Connection, connect: Connect) -> None:
    parent = "parent bigint references public.parents on delete cascade on update cascade"
    create(
        db,
        Shape(
            v1=f"id bigint primary key, {parent}",
            v2=f"id bigint primary key, {parent}, pinned boolean",
            to_v2="a.id, a.parent, o.pinned",
            to_v1="b.id, b.parent",
            before="create table public.parents (id bigint primary key); "
            "grant all on public.parents to authenticated",
        ),
    )
    db.execute("insert into public.parents select generate_series(1, 4)")
    db.execute("insert into public.things values (1, 1), (2, 2), (3, 3)")
    register(db)
    user = connect("authenticated")
    user.execute("delete from public.parents where id in (1, 4)")
    to_stage(db, "dualwrite")
    user.execute("insert into public.things values (5, 2)")
    user.execute("update public.parents set id = 20 where id = 2")
    backfill(db)
    mirror(db, "log_only")
    user.execute("delete from public.parents where id = 3")
    mirror(db, "both")
    repair(db)
    assert settled(db, "id, parent") == [(2, 20), (5, 20)]


# What registration says ---------------------------------------------------------------------------

WRITE_POLICY = 'create policy "Own rows" on public.{t} to authenticated using (owner = auth.uid())'
POLICIES: dict[str, tuple[str, bool]] = {
    "alike": ("", False),
    "V2 has none": ("alter table public.things_v2 disable row level security", True),
    "V2 lets everybody write": (
        'drop policy "Own rows" on public.things_v2; '
        'create policy "All" on public.things_v2 to authenticated using (true)', True),
    "V2 lets strangers write as well": (
        'create policy "More" on public.things_v2 for update to anon using (true)', True),
    "V1 has none": ("alter table public.things disable row level security", True),
}  # fmt: skip


@pytest.mark.parametrize("kind", POLICIES)
def test_policies_by_which_one_table_is_wider_than_the_other_are_told(
    db: Connection, kind: str
) -> None:
    change, told = POLICIES[kind]
    create(db, TENANTS.but(after=TENANTS.after + change))
    text = warnings(db)
    assert ("polic" in text or "row-level security" in text or "row level security" in text) is told


# Owners -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["table things", "table things_v2",
                                  "function things_to_v2", "function things_to_v1"])  # fmt: skip
def test_what_somebody_else_owns_is_refused_or_runs_with_their_rights_only(
    db: Connection, what: str
) -> None:
    # The owner of a converter writes code that would run as the engine's owner.
    create(
        db,
        TENANTS.but(
            before="do $$ begin create role visitor; exception when duplicate_object then end $$; "
            "grant visitor to postgres; grant create, usage on schema public to visitor; "
            "create table public.vault (secret text); "
            "create function public.leak() returns text language plpgsql stable as $$ begin "
            "return (select secret from public.vault); end $$; "
            "insert into public.vault values ('sesame')",
            to_v2="a.id, a.owner, coalesce(public.leak(), a.body), o.pinned"
            if "to_v2" in what else TENANTS.to_v2,
            to_v1="b.id, b.owner, coalesce(public.leak(), b.body)"
            if "to_v1" in what else TENANTS.to_v1,
            after="",
        ),
    )  # fmt: skip
    kind, name = what.split()
    db.execute(f"alter {kind} public.{name} owner to visitor")
    if against := objection(db):
        assert "visitor" in against
        return
    to_stage(db, "dualwrite")
    backfill(db)
    for table in ("things", "things_v2"):
        db.execute(f"insert into public.{table} (id, body) values ({len(table)}, 'a')")
    for table in ("things", "things_v2"):
        assert one(db, f"select count(*) from public.{table} where body = 'sesame'") == 0


def test_a_write_that_is_refused_says_how_to_go_on(
    open_tables: Connection, connect: Connect
) -> None:
    to_stage(open_tables, "dualwrite")
    user = connect("authenticated", sub=ADA)
    with refused("CF_CLOSED", 409) as refusal:
        user.execute(WRITES[0])
    assert "things" in refusal.message
    backfill(open_tables)
    user.execute(WRITES[0])
    assert both(open_tables, EVERYTHING)[-1] == (100, ADA, "x")
