"""From an older state to this one, and away again: the owner's database is as it was."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade import resources
from crossfade.install import apply_install, plan_install
from crossfade.local.migrations import apply_migrations
from crossfade.local.postgres import PostgresServer
from crossfade.project_folder import Installed, Record, digest_of, open_project
from crossfade.releases import SHARED, Release, current, releases
from crossfade.uninstall import apply_uninstall, plan_uninstall
from tests.integration.catalog_lines import catalog_lines
from tests.integration.test_supabase_cli import SERVERS, empty_project
from tests.sql.notes_pair import TABLES

OWN = """
create publication live_rows for table public.notes;
create function public.stamp() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger "Own trigger" before insert on public.notes
  for each row execute function public.stamp();
create table public.uninvolved (id integer primary key references public.notes);
comment on table public.notes is 'Notes of mine.';
alter default privileges in schema public grant select on tables to authenticated;
insert into public.notes (body, tag) select 'note ' || n, 'tag' from generate_series(1, 50) n;
"""
REGISTER = """
select crossfade.register_pair('notes', 'public.notes', 'public.notes_v2',
  'public.notes_to_v2', 'public.notes_to_v1');
select crossfade.set_stage('notes', 'dualwrite', 'test');
update public.notes set body = 'edited' where id <= 10;
"""


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    """A server with Supabase's roles and none of our objects."""
    folder = tmp_path_factory.mktemp("postgres") / "data"
    with PostgresServer(folder, bin_dir=SERVERS[request.param], durable=False) as running:
        running.bootstrap()
        yield running


def older_releases() -> list[Release]:
    """Every release, and a state before the last files, so that there is something to upgrade."""
    now = current(resources.migrations_dir(), resources.functions_dir())
    names = sorted(now.migrations)
    early = [*names[:-6], names[-1]]  # the last one grants
    before = Release("0.0.1", {name: now.migrations[name] for name in early}, now.functions)
    return [before, *releases()]


def install_old(project: Path, release: Release) -> None:
    """Build the project that a release left; released migrations are still here, unchanged."""
    folder = open_project(project)
    files: dict[str, Installed] = {}
    for number, (name, digest) in enumerate(sorted(release.migrations.items())):
        target = f"supabase/migrations/{20260101000000 + number}_{name[15:]}"
        folder.write(target, (resources.migrations_dir() / name).read_bytes())
        files[f"migrations/{name[15:]}"] = Installed(target, digest)
    for name in release.functions:
        # Its text may be gone; what counts is that it is the one that was recorded.
        text = f"// {release.version} of {name}".encode()
        folder.write(f"supabase/functions/{name}", text)
        files[f"functions/{name}"] = Installed(f"supabase/functions/{name}", digest_of(text))
    folder.write_record(Record(release.version, files))


@pytest.mark.parametrize("release", older_releases(), ids=lambda release: release.version)
def test_upgrading_from_a_release_gives_what_installing_gives_and_leaves_nothing_behind(
    release: Release, server: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    migrations = tmp_path / "supabase" / "migrations"
    url = empty_project(server, f"from_{release.version.replace('.', '_')}")
    with psycopg.connect(url) as connection:
        connection.execute(TABLES + OWN)
    own = catalog_lines(url)
    install_old(tmp_path, release)
    apply_migrations(url, migrations, lambda _: None)
    with psycopg.connect(url) as connection:
        connection.execute(REGISTER)

    plan = plan_install(
        tmp_path, migrations=resources.migrations_dir(), functions=resources.functions_dir()
    )
    assert (plan.before, plan.edited, plan.removed) == (release.version, (), ())
    now = current(resources.migrations_dir(), resources.functions_dir())
    new = [name[15:] for name in sorted(now.migrations) if name not in release.migrations]
    added = [copy.key.removeprefix("migrations/") for copy in plan.copies if ".sql" in copy.key]
    assert added == ([*new, "crossfade_api.sql"] if new else [])
    apply_install(plan)
    for name in release.functions:
        theirs = tmp_path / "supabase" / "functions" / name
        assert theirs.read_bytes() == (resources.functions_dir() / name).read_bytes()
        assert name.startswith(SHARED)
    apply_migrations(url, migrations, lambda _: None)
    if release.version == "0.0.1":
        fresh = empty_project(server, "fresh")
        apply_migrations(fresh, resources.migrations_dir(), lambda _: None)
        assert our_functions(url) == our_functions(fresh)

    apply_uninstall(plan_uninstall(tmp_path, sql=resources.resource("sql/uninstall.sql")))
    apply_migrations(url, migrations, lambda _: None)
    assert catalog_lines(url) == own
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select count(*), count(*) filter (where body = 'edited') from public.notes"
        ).fetchall()
    assert rows == [(50, 10)], "rows and edits stay"


def our_functions(url: str) -> set[str]:
    """Definitions and rights of our functions, without those generated for a pair."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select p.oid::regprocedure || ' ' || md5(pg_get_functiondef(p.oid))"
            " || coalesce(p.proacl::text, '-') from pg_proc p"
            " join pg_namespace n on n.oid = p.pronamespace"
            r" where n.nspname in ('crossfade', 'crossfade_private') and p.proname !~ '_v[12]_'"
        ).fetchall()
    return {str(text) for (text,) in rows if "notes" not in text}
