"""A project in mid-migration is dumped and restored: everything goes on, nobody registers again.

Every way runs with the real pg_dump, psql and pg_restore of the server's own version; the cluster
that is restored into is new, so that its transaction numbers are far lower.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crossfade.local.postgres import PostgresServer
from crossfade.project import resources
from tests.integration.test_supabase_cli import SERVERS, apply_files, empty_project
from tests.sql.control import call, force, one, refused
from tests.sql.notes_pair import REGISTER, TABLES, differences
from tests.sql.things_pair import verify

Connection = psycopg.Connection[tuple[Any, ...]]
ADA = "00000000-0000-4000-8000-0000000000a1"
ADMIN = "supabase_admin"
AHEAD = 100_000
"""Transaction numbers that the dumped cluster has used up before the new one makes its first."""
PAGE = Path(__file__).parents[2] / "control" / "COPIES.md"
MIGRATIONS = sorted(resources.migrations_dir().glob("*.sql"))

# What may be printed or numbered in another way after a restore: columns behind a dropped one,
# types of the owner's, quoted names, bodies that PostgreSQL has parsed, settings of a function.
LABELS = """
create domain public.code as varchar(10) check (value <> '');
create type public.mood as enum ('good', 'bad');
create type public.place as (x integer, y text);
create table public.labels (
  gone integer, id integer primary key, name varchar(20) not null, code public.code,
  mood public.mood, "Big Name" public.place[], made timestamptz not null default '2026-01-01'
);
alter table public.labels drop column gone;
create table public.labels_v2 (
  id integer primary key, kind text, gone integer, code public.code, mood public.mood,
  "Big Name" public.place[], made timestamptz not null,
  upper_kind text generated always as (upper(kind)) stored
);
alter table public.labels_v2 drop column gone;
create function public.label_kind(name varchar) returns text language sql immutable
set datestyle = 'ISO, MDY' set search_path = '' begin atomic
  select case when name in ('a', 'b') then 'x ' || name
    when name like any (array['c%', 'd']) then 'y ' || name else 'z ' || name end;
end;
create function public.label_name(kind text) returns text language plpgsql immutable
set search_path = pg_catalog, pg_temp set timezone to 'UTC' as $$
begin
  return substr(kind, 3); -- what label_kind put there, isn't it
end $$;
create function public.labels_to_v2(a public.labels, b public.labels_v2)
returns setof public.labels_v2 language sql stable
set search_path = pg_catalog, pg_temp begin atomic
  select a.id, public.label_kind(a.name), a.code, a.mood, a."Big Name", a.made,
    case when a.name not in (b.kind, 'none') then ''::text end;
end;
create function public.labels_to_v1(b public.labels_v2, a public.labels)
returns setof public.labels language sql stable set search_path = pg_catalog, pg_temp begin atomic
  select b.id, public.label_name(b.kind)::varchar(20), b.code, b.mood, b."Big Name", b.made;
end;
"""
REGISTER_LABELS = """
select crossfade.register_pair('labels', 'public.labels', 'public.labels_v2',
  'public.labels_to_v2', 'public.labels_to_v1')
"""
_numbers = itertools.count()


@dataclass(frozen=True)
class Servers:
    """The cluster that is dumped, and one that has seen nothing yet."""

    old: PostgresServer
    new: PostgresServer


@pytest.fixture(scope="module", params=SERVERS)
def servers(request: pytest.FixtureRequest, fresh_dir: Callable[[str], Path]) -> Iterator[Servers]:
    binaries = SERVERS[request.param]
    old, new = (
        PostgresServer(fresh_dir(f"backup-{name}") / "pg", bin_dir=binaries, durable=False)
        for name in ("old", "new")
    )
    with old, new:
        for server in (old, new):
            server.bootstrap()
        with connect(old.dsn(ADMIN)) as db:
            db.execute(
                f"do $$ begin for n in 1..{AHEAD} loop"
                " perform pg_current_xact_id(); commit; end loop; end $$"
            )
        yield Servers(old, new)


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as db:
        yield db


def new_project(server: PostgresServer, rows: int = 20) -> str:
    """Make a project with two pairs in dualwrite, nothing copied; return its database's name."""
    name = f"project_{next(_numbers)}"
    url = server.create_database(name, template=registered(server))
    with connect(url) as db:
        db.execute(
            "insert into public.notes (owner_id, body, tag)"
            f" select %s, 'note ' || n, 'tag' from generate_series(1, {rows}) n",
            [ADA],
        )
        for pair in ("notes", "labels"):
            call(db, "set_stage", pair, "dualwrite", "test")
    return name


def registered(server: PostgresServer) -> str:
    """Make a project with two pairs in stage off once a server, to be copied: that is quicker."""
    name = "registered"
    with connect(server.dsn(ADMIN)) as db:
        if one(db, "select exists (select from pg_database where datname = %s)", name):
            return name
    url = empty_project(server, name)
    apply_files(server, name, MIGRATIONS)
    with connect(url) as db:
        db.execute(TABLES + LABELS)
        db.execute(REGISTER, ["{}"])
        db.execute(REGISTER_LABELS)
    return name


@pytest.fixture(scope="module")
def project(servers: Servers) -> str:
    """Give the database of a project: 20 rows copied, five with values that only V2 can hold."""
    name = new_project(servers.old)
    with connect(servers.old.dsn(database=name)) as db:
        finish(db, "backfill")
        db.execute(
            "update public.notes_v2 set pinned = true, parts = parts || '[7]' where id % 4 = 0"
        )
        assert differences(db) == []
    return name


def finish(db: Connection, kind: str, **options: str) -> None:
    """Run a backfill or verify to its end; nothing may wait for another cluster's transactions."""
    end(db, kind, call(db, f"start_{kind}", "notes", **options)["run"]["id"])


def end(db: Connection, kind: str, run: int) -> None:
    for _ in range(500):
        answer = call(db, f"{kind}_batch", run)
        if answer["state"] == "finished":
            return
        assert "older" not in (answer["reason"] or ""), answer
        time.sleep(min(answer["wait_ms"], 50) / 1000)
    raise AssertionError(answer)


def copied(db: Connection, table: str) -> list[str]:
    """Return the rows of a table as COPY, and so pg_dump, writes them."""
    with db.cursor().copy(f"copy {table} to stdout".encode()) as rows:
        return sorted(b"".join(map(bytes, rows)).decode().splitlines())


def everything(url: str) -> dict[str, list[str]]:
    """Return the rows of the owner's tables and of all of crossfade's."""
    with connect(url) as db:
        tables = db.execute(
            "select c.oid::regclass::text from pg_class c where c.relkind = 'r' and"
            " c.relnamespace in ('crossfade'::regnamespace, 'crossfade_private'::regnamespace,"
            " 'public'::regnamespace) order by 1"
        ).fetchall()
        assert len(tables) > 20
        return {name: copied(db, name) for (name,) in tables}


def states_agree(db: Connection) -> list[bool]:
    """Whether the constants of each side say what the row and the sequence say."""
    return [
        one(
            db,
            f"select (crossfade_private.mirror_notes_v{side}_state(),"
            f" crossfade_private.mirror_notes_v{side}_change()) = (crossfade_private.state_of("
            f" m.mirror, {side}), pg_sequence_last_value('crossfade_private.mirror_notes_changes'))"
            " from crossfade_private.mirror_state m where m.pair = 'notes'",
        )
        for side in (1, 2)
    ]


def write_everywhere(db: Connection) -> None:
    """Write both tables as owner and as a signed-in user."""
    claims = json.dumps({"sub": ADA, "role": "authenticated"})
    db.execute("select set_config('request.jwt.claims', %s, false)", [claims])
    for role, table, column, value in (
        ("postgres", "notes", "body", "'by V1'"),
        ("postgres", "notes_v2", "parts", """'["by V2"]'"""),
        ("authenticated", "notes", "body", "'by a user of V1'"),
        ("authenticated", "notes_v2", "parts", """'["by a user of V2"]'"""),
    ):
        db.execute(f"set role {role}")
        db.execute(
            f"insert into public.{table} (owner_id, {column})"
            f" select %s, {value} from generate_series(1, 3)",
            [ADA],
        )
        edit = f"update public.{table} set {column} = {value} where id between 3 and 7"
        assert db.execute(edit).rowcount > 1
        last = f"(select max(id) from public.{table})"
        assert db.execute(f"delete from public.{table} where id = {last}").rowcount == 1
        db.execute("reset role")
        assert differences(db) == []


def goes_on(url: str) -> None:
    """Go through what a migration needs, without registering again."""
    with connect(url) as db:
        pairs = db.execute(
            "select name, fingerprint = crossfade_private.table_fingerprint(v1_table::regclass,"
            " v2_table::regclass), converter_hash = crossfade_private.converter_hash(to_v2, to_v1),"
            " array(select crossfade_private.mirror_problems(p)) from crossfade.pairs p order by 1"
        ).fetchall()
        assert pairs == [("labels", True, True, []), ("notes", True, True, [])]
        assert states_agree(db) == [True, True]
        write_everywhere(db)
        finish(db, "backfill")
        assert verify(db, "notes") == 0
        assert one(db, "select count(*) from crossfade.mirror_failures") == 0
        call(db, "set_stage", "notes", "shadow", "test")
        call(db, "set_stage", "notes", "off", "test")
        assert states_agree(db) == [True, True]
        before = one(db, "select count(*) from public.notes_v2")
        db.execute("insert into public.notes (body) values ('not mirrored')")
        assert one(db, "select count(*) from public.notes_v2") == before


def dump(server: PostgresServer, database: str, file: Path, *options: str) -> str:
    """Dump a database; return the file's name."""
    server.run("pg_dump", "-f", str(file), *options, database=database, user=ADMIN)
    return str(file)


def psql(server: PostgresServer, database: str, *arguments: str, user: str = ADMIN) -> None:
    command = ["-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments]
    done = server.run("psql", *command, database=database, user=user, check=False)
    assert done.returncode == 0, done.stderr


def empty_database(server: PostgresServer) -> str:
    name = f"restored_{next(_numbers)}"
    server.create_database(name)
    return name


REPLICA = ("-c", "set session_replication_role = replica")


def restore_whole(old: PostgresServer, project: str, new: PostgresServer, folder: Path) -> str:
    name = empty_database(new)
    psql(new, name, "-f", dump(old, project, folder / "whole.sql"))
    return name


def restore_as_replica(old: PostgresServer, project: str, new: PostgresServer, folder: Path) -> str:
    name = empty_database(new)
    schema = dump(old, project, folder / "schema.sql", "--schema-only")
    data = dump(old, project, folder / "data.sql", "--data-only")
    psql(new, name, "-f", schema, *REPLICA, "-f", data)
    return name


def restore_without_triggers(
    old: PostgresServer, project: str, new: PostgresServer, folder: Path
) -> str:
    name = empty_database(new)
    schema = dump(old, project, folder / "schema.sql", "--schema-only")
    data = dump(old, project, folder / "data.sql", "--data-only", "--disable-triggers")
    psql(new, name, "-f", schema, "-f", data)
    return name


def restore_in_parallel(
    old: PostgresServer, project: str, new: PostgresServer, folder: Path
) -> str:
    name = empty_database(new)
    archive = dump(old, project, folder / "whole.dump", "-Fc")
    command = ["-j2", "--exit-on-error", "-d", name, archive]
    done = new.run("pg_restore", *command, user=ADMIN, check=False)
    assert done.returncode == 0, done.stderr
    return name


def restore_into_a_project(
    old: PostgresServer, project: str, new: PostgresServer, folder: Path
) -> str:
    """As supabase db dump and Supabase's page on restoring do: quoted names, no superuser."""
    name = f"restored_{next(_numbers)}"
    empty_project(new, name)
    with connect(new.dsn(ADMIN)) as db:
        db.execute("grant set on parameter session_replication_role to postgres")
    ours = ["--quote-all-identifiers", "-n", "public", "-n", "crossfade", "-n", "crossfade_private"]
    schema, data = folder / "schema.sql", folder / "data.sql"
    dump(old, project, schema, "--schema-only", *ours)
    dump(old, project, data, "--data-only", *ours)
    text = re.sub(
        '^CREATE SCHEMA "', 'CREATE SCHEMA IF NOT EXISTS "', schema.read_text(), flags=re.M
    )
    text = re.sub("^CREATE FUNCTION ", "CREATE OR REPLACE FUNCTION ", text, flags=re.M)
    schema.write_text(text)
    files = ["-1", "-f", str(schema), *REPLICA, "-f", str(data)]
    psql(new, name, *files, user="postgres")
    return name


Restore = Callable[[PostgresServer, str, PostgresServer, Path], str]
WAYS: dict[str, Restore] = {
    "whole": restore_whole,
    "replica": restore_as_replica,
    "disable-triggers": restore_without_triggers,
    "parallel": restore_in_parallel,
    "supabase": restore_into_a_project,
}


@pytest.mark.parametrize(
    ("way", "same_cluster"), [("whole", True), *((way, False) for way in WAYS)]
)
def test_a_restored_project_is_as_dumped_and_goes_on(
    way: str, same_cluster: bool, servers: Servers, project: str, tmp_path: Path
) -> None:
    new = servers.old if same_cluster else servers.new
    name = WAYS[way](servers.old, project, new, tmp_path)
    assert everything(new.dsn(database=name)) == everything(servers.old.dsn(database=project))
    goes_on(new.dsn(database=name))


def test_data_restored_into_a_schema_of_another_moment_is_mirrored(
    servers: Servers, project: str, tmp_path: Path
) -> None:
    # Dumped one after the other, schema and data are of two moments. Here the constants have been
    # changed as often, but say that nothing is mirrored; the row, which is data, says the opposite.
    other = new_project(servers.new)
    with connect(servers.new.dsn(database=other)) as db:
        call(db, "set_stage", "notes", "off", "test")
    name = empty_database(servers.new)
    schema = dump(servers.new, other, tmp_path / "schema.sql", "--schema-only")
    data = dump(servers.old, project, tmp_path / "data.sql", "--data-only")
    psql(servers.new, name, "-f", schema, *REPLICA, "-f", data)
    url = servers.new.dsn(database=name)
    assert everything(url) == everything(servers.old.dsn(database=project))
    with connect(url) as db:
        assert states_agree(db) == [False, False]
        db.execute("insert into public.notes (body) values ('mirrored')")
        assert differences(db) == []
        call(db, "refresh_pair", "notes")
    goes_on(url)


def test_data_is_restored_as_the_page_says_into_a_project_that_has_its_migrations(
    servers: Servers, project: str, tmp_path: Path
) -> None:
    name = new_project(servers.new, rows=0)
    (empty,) = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    (tmp_path / "empty.sql").write_text(empty)
    parts = ["-n", "public", "-n", "crossfade", "-n", "crossfade_private"]
    data = dump(servers.old, project, tmp_path / "data.sql", "--data-only", *parts)
    psql(servers.new, name, "-f", str(tmp_path / "empty.sql"), "-f", data)
    url = servers.new.dsn(database=name)
    assert everything(url) == everything(servers.old.dsn(database=project))
    with connect(url) as db:
        call(db, "refresh_pair", "notes")
    goes_on(url)


def test_only_the_owners_tables_are_restored_and_the_pair_begins_anew(
    servers: Servers, project: str, tmp_path: Path
) -> None:
    name = new_project(servers.new, rows=0)
    with connect(servers.new.dsn(database=name)) as db:
        for pair in ("notes", "labels"):
            call(db, "set_stage", pair, "off", "test")
        data = dump(servers.old, project, tmp_path / "data.sql", "--data-only", "-n", "public")
        psql(servers.new, name, *REPLICA, "-f", data)
        with connect(servers.old.dsn(database=project)) as was:
            tables = ("public.notes", "public.notes_v2")
            before = [copied(was, table) for table in tables]
        assert [copied(db, table) for table in tables] == before
        call(db, "set_stage", "notes", "dualwrite", "test")
        finish(db, "backfill")
        assert [copied(db, table) for table in tables] == before
        assert verify(db, "notes") == 0
        write_everywhere(db)


def test_a_pair_that_is_complete_is_an_archive_after_the_restore_and_has_a_way_back(
    servers: Servers, tmp_path: Path
) -> None:
    project = new_project(servers.old)
    with connect(servers.old.dsn(database=project)) as db:
        finish(db, "backfill")
        for name in ("shadow_min_reads", "stage_bake_s"):
            call(db, "set_setting", name, "0", "test")
        call(db, "set_stage", "notes", "shadow", "test")
        assert verify(db, "notes") == 0
        call(db, "set_stage", "notes", "live", "test", True)
        call(db, "set_cohort", "notes", {"percentage": 100}, "test")
        for stage in ("rampdown", "complete"):
            call(db, "set_stage", "notes", stage, "test", True)
        db.execute("insert into public.notes_v2 (parts) values ('[\"only in V2\"]')")
    name = restore_whole(servers.old, project, servers.new, tmp_path)
    with connect(servers.new.dsn(database=name)) as db:
        assert states_agree(db) == [True, True]
        with refused("CF_ARCHIVED", 409):
            db.execute("update public.notes set body = 'late'")
        db.execute("insert into public.notes_v2 (parts) values ('[\"in V2 alone\"]')")
        finish(db, "backfill", direction="v2_to_v1")
        assert verify(db, "notes") == 0
        call(db, "set_stage", "notes", "rampdown", "test")
        write_everywhere(db)


class Writer(threading.Thread):
    """A client that writes one table, a transaction at a time, until it is told to stop."""

    def __init__(self, url: str, statements: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.url, self.statements = url, statements
        self.done = 0
        self.errors: list[str] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        with connect(self.url) as db:
            while not self.over.is_set():
                try:
                    with db.transaction():
                        for statement in self.statements:
                            db.execute(statement.encode())
                    self.done += 1
                except psycopg.errors.DeadlockDetected:
                    continue  # both tables have writers: the client tries again
                except psycopg.Error as error:
                    self.errors.append(str(error))
                    return

    def stop(self) -> None:
        self.over.set()
        self.join(30)
        assert not self.is_alive()
        assert self.errors == []
        assert self.done > 1


V1_WRITES = (
    "insert into public.notes (body, tag) values ('new in V1', 'a'), ('too', null)",
    "update public.notes set body = body || '.' where id = (random() * 3000)::int",
    "delete from public.notes where id = (random() * 3000)::int",
)
V2_WRITES = (
    "insert into public.notes_v2 (parts, pinned) values ('[\"new in V2\", 7]', true)",
    "update public.notes_v2 set parts = parts || '[8]', tag = 'by V2'"
    " where id = (random() * 3000)::int",
)


BATCH_ROWS = "where name in ('batch_min_rows', 'batch_max_rows', 'batch_first_rows')"


def test_a_dump_taken_while_writers_write_and_a_backfill_runs_goes_on_with_the_run(
    servers: Servers, tmp_path: Path
) -> None:
    project = new_project(servers.old, rows=3000)
    url = servers.old.dsn(database=project)
    with connect(url) as db:
        force(db, f"update crossfade.settings set value = '20' {BATCH_ROWS}")
        run = call(db, "start_backfill", "notes")["run"]["id"]
        call(db, "backfill_batch", run)
    batches = Writer(url, (f"select crossfade.backfill_batch({run})", "select pg_sleep(0.05)"))
    writers = [batches, Writer(url, V1_WRITES), Writer(url, V2_WRITES)]
    archive = dump(servers.old, project, tmp_path / "whole.sql")
    for writer in writers:
        writer.stop()
    name = empty_database(servers.new)
    psql(servers.new, name, "-f", archive)

    with connect(servers.new.dsn(database=name)) as db:
        for table in ("notes", "notes_v2"):
            assert copied(db, f"public.{table}") == dumped(Path(archive), f"public.{table}")
        status = call(db, "run_status", run)["run"]
        assert status["state"] == "running"
        assert 0 < status["rows_done"] < 3000
        assert copied(db, "crossfade_private.engine_writes") == []
        assert states_agree(db) == [True, True]
        force(db, f"update crossfade.settings set value = '2000' {BATCH_ROWS}")
        end(db, "backfill", run)
        assert verify(db, "notes") == 0
        assert differences(db) == []
        write_everywhere(db)


def dumped(archive: Path, table: str) -> list[str]:
    """Return the rows of a table in a plain dump."""
    found = re.search(
        rf"^COPY {re.escape(table)} [^\n]* FROM stdin;\n(.*?)^\\\.$",
        archive.read_text(),
        re.M | re.S,
    )
    assert found
    return sorted(found[1].splitlines())


def test_rights_that_a_dump_left_out_come_back_with_the_migration(
    servers: Servers, project: str, tmp_path: Path
) -> None:
    name = f"restored_{next(_numbers)}"
    empty_project(servers.new, name)
    parts = ["-n", "public", "-n", "crossfade", "-n", "crossfade_private"]
    archive = dump(
        servers.old, project, tmp_path / "a.dump", "-Fc", "--no-acl", "--no-owner", *parts
    )
    servers.new.run("pg_restore", "-d", name, archive, check=False)  # as postgres: "public exists"
    rights = (resources.resource("sql/checks") / "rights_too_wide.sql").read_text()
    missing = (resources.resource("sql/checks") / "rights_missing.sql").read_text()
    with connect(servers.new.dsn(database=name)) as db:
        assert db.execute(rights.encode()).fetchall() != []
        apply_files(servers.new, name, MIGRATIONS)
        assert db.execute(rights.encode()).fetchall() == []
        assert db.execute(missing.encode()).fetchall() == []


@pytest.mark.skipif(len(SERVERS) < 2, reason="needs two versions of PostgreSQL")
def test_a_dump_of_an_older_postgres_goes_on_in_a_newer_one(
    fresh_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    old = PostgresServer(fresh_dir("older") / "pg", bin_dir=SERVERS["15"], durable=False)
    new = PostgresServer(fresh_dir("newer") / "pg", bin_dir=SERVERS["18"], durable=False)
    with old, new:
        for server in (old, new):
            server.bootstrap()
        project = new_project(old)
        with connect(old.dsn(database=project)) as db:
            finish(db, "backfill")
        name = empty_database(new)
        new.run("pg_dump", "-h", "127.0.0.1", "-p", str(old.port), "-f", str(tmp_path / "a.sql"),
                database=project, user=ADMIN)  # fmt: skip
        psql(new, name, "-f", str(tmp_path / "a.sql"))
        assert everything(new.dsn(database=name)) == everything(old.dsn(database=project))
        goes_on(new.dsn(database=name))
