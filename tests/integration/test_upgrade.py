"""From an older state to this one, and away again: the owner's database is as it was."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from crossfade import __version__
from crossfade.local.migrations import apply_migrations
from crossfade.local.postgres import PostgresServer
from crossfade.project import resources
from crossfade.project.folder import Installed, Record, digest_of, open_project
from crossfade.project.install import apply_install, plan_install
from crossfade.project.releases import SHARED, Release, current, releases
from crossfade.project.schema import migration_name, migration_text
from crossfade.project.uninstall import apply_uninstall, plan_uninstall
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


# What a release before this one may have had: a function of other parameters and one with a trigger
# that are gone since, another body, a wider grant.
SINCE_GONE = """
create function crossfade.set_setting(name text, value text) returns int language sql return 1;
create function crossfade_private.gone() returns trigger language plpgsql
  as 'begin return null; end';
create trigger crossfade_gone after update on crossfade.flags
  for each row execute function crossfade_private.gone();
create or replace function crossfade.flags_version() returns bigint language sql stable
  as 'select 1::bigint';
grant execute on function crossfade.flags_version() to anon;
"""


@dataclass(frozen=True)
class Older:
    """A release, with the text of its migrations by name."""

    release: Release
    texts: Mapping[str, str]


def older_releases() -> list[Older]:
    """Every release, and one made up, so that there is always something to upgrade."""
    folder = resources.migrations_dir()
    now = current(folder, resources.functions_dir())
    name, text = (
        "20260101000000_crossfade_0.1.9.sql",
        migration_text(resources.schema_dir(), "0.1.9"),
    )
    made = {name: text + SINCE_GONE}
    digests = {name: digest_of(made[name].encode())}
    return [
        Older(Release("0.1.9", digests, now.functions), made),
        *(
            Older(
                release, {name: (folder / name).read_text("utf-8") for name in release.migrations}
            )
            for release in releases()
        ),
    ]


def install_old(project: Path, older: Older) -> None:
    """Build the project that a release left."""
    folder = open_project(project)
    files: dict[str, Installed] = {}
    for name, text in older.texts.items():
        target = f"supabase/migrations/20260101000000_{name[15:]}"
        folder.write(target, text.encode())
        files[f"migrations/{name[15:]}"] = Installed(target, older.release.migrations[name])
    for name in older.release.functions:
        # Its text may be gone; what counts is that it is the one that was recorded.
        text = f"// {older.release.version} of {name}"
        folder.write(f"supabase/functions/{name}", text.encode())
        digest = digest_of(text.encode())
        files[f"functions/{name}"] = Installed(f"supabase/functions/{name}", digest)
    folder.write_record(Record(older.release.version, files))


@pytest.mark.parametrize("older", older_releases(), ids=lambda older: older.release.version)
def test_upgrading_from_a_release_gives_what_installing_gives_and_leaves_nothing_behind(
    older: Older, server: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    migrations = tmp_path / "supabase" / "migrations"
    release = older.release
    url = empty_project(server, f"from_{release.version.replace('.', '_')}")
    with psycopg.connect(url) as connection:
        connection.execute(TABLES + OWN)
    own = catalog_lines(url)
    install_old(tmp_path, older)
    apply_migrations(url, migrations, lambda _: None)
    with psycopg.connect(url) as connection:
        connection.execute(REGISTER)

    plan = plan_install(
        tmp_path, migrations=resources.migrations_dir(), functions=resources.functions_dir()
    )
    assert (plan.before, plan.edited, plan.removed) == (release.version, (), ())
    added = [copy.key for copy in plan.copies if ".sql" in copy.key]
    newest = f"migrations/{migration_name()[15:]}"
    assert added == ([newest] if release.version != __version__ else [])
    apply_install(plan)
    assert len(list(migrations.iterdir())) == len(added) + 1
    for name in release.functions:
        theirs = tmp_path / "supabase" / "functions" / name
        assert theirs.read_bytes() == (resources.functions_dir() / name).read_bytes()
        assert name.startswith(SHARED)
    apply_migrations(url, migrations, lambda _: None)
    fresh = empty_project(server, f"fresh_{release.version.replace('.', '_')}")
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
