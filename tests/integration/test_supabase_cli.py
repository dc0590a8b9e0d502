"""The official Supabase CLI and psql both install our migrations, with Supabase's roles only."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crossfade.cli.migration_files import write_migrations
from crossfade.local.migrations import apply_migrations
from crossfade.local.postgres import PostgresServer
from tests.sql import test_handover
from tests.sql.control import call

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
# chat_features adds to the tables of chat_messages.
PAIRS = sorted(
    (ROOT / "sql" / "pairs").glob("*.sql"), key=lambda path: (path.stem == "chat_features", path)
)

# PostgreSQL 15 is what older hosted projects run. No package of the registry carries it, so it is
# tried where Debian's is installed; .ci/run does not depend on it.
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
SERVERS: dict[str, Path | None] = {"18": None} | (
    {"15": DEBIAN_15} if (DEBIAN_15 / "postgres").exists() else {}
)


@dataclass(frozen=True)
class Cli:
    """The Supabase CLI in a project folder that holds our migrations."""

    program: Path
    project: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command; a home of its own keeps profile and telemetry files away."""
        environment = os.environ | {"HOME": str(self.project.parent), "DO_NOT_TRACK": "1"}
        return subprocess.run(
            [self.program, *arguments],
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )


@pytest.fixture(scope="module")
def cli(cli_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Make a new project as a user does and copy the migrations into it."""
    project = tmp_path_factory.mktemp("home") / "project"
    project.mkdir()
    cli = Cli(cli_program, project)
    assert cli.run("init").returncode == 0
    config = ROOT / "supabase" / "config.toml"
    shutil.copy(config, project / "supabase" / "config.toml")
    folder = project / "supabase" / "migrations"
    folder.mkdir(exist_ok=True)
    for file in MIGRATIONS:
        shutil.copy(file, folder)
    return cli


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    """A server with Supabase's roles and none of our objects."""
    folder = tmp_path_factory.mktemp("postgres") / "data"
    with PostgresServer(folder, bin_dir=SERVERS[request.param], durable=False) as server:
        server.bootstrap()
        yield server


def empty_project(server: PostgresServer, name: str) -> str:
    """Create a database that looks like a new Supabase project; return its URL."""
    url = server.create_database(name)
    server.bootstrap(name)
    return url


def apply_files(server: PostgresServer, database: str, files: list[Path]) -> None:
    """Apply each file in one transaction as role postgres, as the SQL editor and branching do."""
    for file in files:
        arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", str(file)]
        result = server.run("psql", *arguments, database=database, check=False)
        assert result.returncode == 0, f"{file.name}: {result.stderr}"


def catalog(server: PostgresServer, database: str, *arguments: str) -> str:
    """Dump our schemas: objects, owners, grants, comments and rows."""
    schemas = ("--schema=crossfade", "--schema=crossfade_private", *arguments)
    dump = server.run("pg_dump", *schemas, user="supabase_admin", database=database).stdout
    # A random token of newer releases, different in every dump.
    return "\n".join(line for line in dump.splitlines() if "restrict " not in line)


def test_db_push_applies_every_migration_and_then_has_nothing_to_do(
    cli: Cli, server: PostgresServer
) -> None:
    url = empty_project(server, "pushed")

    first = cli.run("db", "push", f"--remote={url}", "--yes")

    assert first.returncode == 0, first.stderr
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select version || '_' || name from supabase_migrations.schema_migrations order by 1"
        ).fetchall()
    assert [name for (name,) in rows] == [file.stem for file in MIGRATIONS]
    before = catalog(server, "pushed")

    second = cli.run("db", "push", f"--remote={url}", "--yes")

    assert second.returncode == 0, second.stderr
    assert "up to date" in second.stdout
    assert catalog(server, "pushed") == before


def test_psql_builds_what_db_push_builds(cli: Cli, server: PostgresServer) -> None:
    pushed = cli.run("db", "push", f"--remote={empty_project(server, 'by_cli')}", "--yes")
    assert pushed.returncode == 0, pushed.stderr

    empty_project(server, "by_psql")
    apply_files(server, "by_psql", MIGRATIONS)

    by_psql, by_cli = (catalog(server, name, "--schema-only") for name in ("by_psql", "by_cli"))
    assert by_psql == by_cli


def test_applying_every_file_twice_changes_nothing(server: PostgresServer) -> None:
    empty_project(server, "twice")
    apply_files(server, "twice", MIGRATIONS)
    once = catalog(server, "twice")

    apply_files(server, "twice", MIGRATIONS)

    assert catalog(server, "twice") == once


def test_applying_again_keeps_what_an_operator_changed(server: PostgresServer) -> None:
    url = empty_project(server, "operated")
    apply_files(server, "operated", [*MIGRATIONS, *PAIRS])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select crossfade.set_flag('enable_caching', '{\"percentage\": 12.5}', 'trial')"
        )
        connection.execute("select crossfade.engage_kill_switch('disable_new_tools', 'trial')")
        connection.execute("select crossfade.set_setting('rollout_steps', '[1, 100]', 'trial')")
    once = catalog(server, "operated")

    apply_files(server, "operated", [*MIGRATIONS, *PAIRS])

    assert catalog(server, "operated") == once


KEYED = """
create table public.things (id integer generated always as identity primary key, body text);
insert into public.things (body) select 't' || g from generate_series(1, 500) g;
"""


def test_the_steps_of_a_carried_key_are_pushed_and_applied_by_the_local_stack(
    cli: Cli, server: PostgresServer, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(cli.project, project)
    folder = project / "supabase" / "migrations"
    (folder / "20990101000000_things.sql").write_text(KEYED)
    urls = [empty_project(server, name) for name in ("carry_pushed", "carry_local")]
    pushed = Cli(cli.program, project)

    def apply() -> None:
        done = pushed.run("db", "push", f"--remote={urls[0]}", "--yes")
        assert done.returncode == 0, done.stderr
        apply_migrations(urls[1], folder, lambda _: None)

    def planned(url: str) -> dict[str, Any]:
        with psycopg.connect(url) as connection:
            found = connection.execute("select crossfade.carry_plan('things')").fetchone()
            assert found
            plan: dict[str, Any] = found[0]
            return plan

    def write() -> list[str]:
        first, second = (planned(url)["files"] for url in urls)
        assert first == second
        stamp = max(int(path.name[:14]) for path in folder.glob("*.sql"))
        for place, file in enumerate(first, 1):
            (folder / f"{stamp + place}_{file['name']}.sql").write_text(file["sql"])
        return [file["name"].split("-")[1] for file in first]

    apply()
    assert write() == ["column"]
    apply()
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            batch = {"state": "running"}
            while batch["state"] == "running":
                row = connection.execute("select crossfade.carry_batch('things')").fetchone()
                assert row
                batch = row[0]
    assert write() == ["index", "check", "validate", "not_null"]
    apply()
    for url in urls:
        assert {step["state"] for step in planned(url)["steps"]} == {"done"}


def test_the_files_of_relabelling_are_pushed_and_applied_by_the_local_stack(
    cli: Cli, server: PostgresServer, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(cli.project, project)
    folder = project / "supabase" / "migrations"
    (folder / "20990101000000_things.sql").write_text(
        KEYED + "alter table public.things add column at timestamptz not null default now();"
    )
    urls = [empty_project(server, name) for name in ("relabel_pushed", "relabel_local")]
    pushed = Cli(cli.program, project)
    apply_migrations(urls[1], folder, lambda _: None)
    with psycopg.connect(urls[1]) as connection:
        row = connection.execute("select crossfade.relabel_plan('things', 'at')").fetchone()
        assert row
    for place, file in enumerate(row[0]["files"], 1):
        (folder / f"20990101{place:06}_{file['name']}.sql").write_text(file["sql"])
    # A project of its own that has seen none of it, as after a reset, and one that is half way.
    done = pushed.run("db", "push", f"--remote={urls[0]}", "--yes")
    assert done.returncode == 0, done.stderr
    apply_migrations(urls[1], folder, lambda _: None)
    for url in urls:
        with psycopg.connect(url) as connection:
            found = connection.execute(
                "select tableoid::regclass::text, count(*) from public.things group by 1"
            ).fetchall()
            assert found == [("things_first", 500)]


def test_the_files_of_the_handover_are_pushed_and_applied_by_the_local_stack(
    cli: Cli, server: PostgresServer, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(cli.project, project)
    folder = project / "supabase" / "migrations"
    urls = [empty_project(server, name) for name in ("handover_pushed", "handover_local")]
    pushed = Cli(cli.program, project)

    def apply() -> None:
        done = pushed.run("db", "push", f"--remote={urls[0]}", "--yes")
        assert done.returncode == 0, done.stderr
        apply_migrations(urls[1], folder, lambda _: None)

    apply()
    found = []
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            test_handover.world(connection)
            found.append(call(connection, "handover_plan", "things"))
    assert found[0] == found[1]
    texts = (found[0]["sql"], found[0]["check_sql"])
    names = ("handover_things", "handover_things-check")
    assert len(write_migrations(project, dict(zip(names, texts, strict=True)))) == 2
    apply()
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            left = call(connection, "handover_plan", "things")
            assert not test_handover.listed(left).keys() & test_handover.REPOINTED
            repointed = "select count(*), bool_and(convalidated) from pg_constraint where confrelid"
            made = connection.execute(f"{repointed} = 'public.things_v2'::regclass").fetchone()
            assert made == (2, True)


def test_advisors_have_no_warning_about_our_objects(cli: Cli, server: PostgresServer) -> None:
    url = empty_project(server, "advised")
    apply_files(server, "advised", [*MIGRATIONS, *PAIRS])

    assert findings(cli, url) == set()

    with psycopg.connect(url) as connection:
        connection.execute("create table crossfade.forgotten (id bigint primary key)")
        connection.execute("grant select on crossfade.forgotten to anon")
        connection.execute("create function crossfade.open() returns int language sql return 1")
    assert findings(cli, url) == {
        ("function_search_path_mutable", "crossfade.open"),
        ("rls_disabled_in_public", "crossfade.forgotten"),
    }


def findings(cli: Cli, url: str) -> set[tuple[str, str]]:
    """Return the advisors' findings of level WARN and ERROR, each with its object."""
    result = cli.run("db", "advisors", f"--remote={url}", "--level", "warn")
    assert result.returncode == 0, result.stderr
    start = result.stdout.find("[\n")
    # Nothing is printed on stdout but notes when there is no finding.
    items = json.loads(result.stdout[start:]) if start >= 0 else []
    return {
        (item["name"], f"{item['metadata']['schema']}.{item['metadata']['name']}") for item in items
    }
