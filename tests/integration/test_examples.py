"""Two projects adopt crossfade as the walk-throughs say, step by step, and leave it again."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from crossfade.local import LocalStack
from tests.integration.catalog_lines import catalog_lines
from tests.integration.documented import Walk, blocks
from tests.integration.test_supabase_cli import DEBIAN_15, ROOT

EXAMPLES = ROOT / "tests" / "examples"
# Walk-throughs of the documents; what they use is tested on 15 elsewhere.
SERVERS: dict[str, Path | None] = {"18": None} | (
    {"15": DEBIAN_15}
    if os.environ.get("CROSSFADE_TEST_EVERY_VERSION") and (DEBIAN_15 / "postgres").exists()
    else {}
)


@pytest.fixture(scope="module", params=SERVERS)
def project(
    request: pytest.FixtureRequest, fresh_dir: Callable[[str], Path]
) -> Iterator[LocalStack]:
    """A hosted project's stand-in: no migration of ours, no function."""
    with LocalStack(
        fresh_dir(f"adopter-{request.param}"),
        functions=(),
        pairs=(),
        migrations=False,
        durable=False,
        postgres_bin=SERVERS[request.param],
    ) as running:
        yield running


@pytest.fixture
def walk(project: LocalStack, cli_program: Path, tmp_path: Path) -> Iterator[Walk]:
    """An empty folder, the official CLI, and the address of the project in the environment."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "supabase").symlink_to(cli_program)
    folder = tmp_path / "project"
    folder.mkdir()
    venv = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}:{venv}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DO_NOT_TRACK": "1",
        "DENO_DIR": str(tmp_path / "deno"),
        "DATABASE_URL": project.info.db_url,
        "SUPABASE_URL": project.info.api_url,
        "SUPABASE_SECRET_KEY": project.info.secret_key,
    }
    yield Walk(folder, environment, {})
    reset(project.info.db_url)


@pytest.mark.parametrize(("example", "pair"), [("orders", "orders"), ("chat", "chat_messages")])
def test_a_project_goes_live_for_5_percent_and_back_and_is_as_before(
    example: str, pair: str, project: LocalStack, walk: Walk
) -> None:
    url = project.info.db_url
    before: set[str] = set()
    rows: list[tuple[object, ...]] = []
    stages: list[str] = []
    for block in blocks(EXAMPLES / example / "README.md"):
        if block.file:
            walk.write(block)
            continue
        if block.is_output:
            walk.expect(block)
            continue
        for command in walk.commands(block):
            if command.startswith("crossfade install --edit"):
                before, rows = catalog_lines(url), v1_rows(url, pair)
            if command.startswith("crossfade pair remove orders"):
                while_it_is_there(walk, url)
            walk.run(command)
            if "db push" in command:
                project.restart_api()  # a hosted one reads its schema cache again by itself
            if "stage set" in command or "cohort set" in command:
                stages.append(status(url, pair))
    assert stages[:5] == ["dualwrite 0", "shadow 0", "live 0", "live 5", "off 0"]
    left = {line for line in catalog_lines(url) if not is_new(line, pair)}
    assert left == {line for line in before if not is_new(line, pair)}
    assert v1_rows(url, pair) == rows


def status(url: str, pair: str) -> str:
    """Stage and percentage of a pair."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select format('%%s %%s', p.stage, trunc(c.percentage)) from crossfade.pairs p"
            " join crossfade.cohorts c on c.pair = p.name where p.name = %s",
            [pair],
        ).fetchone()
    assert row
    return str(row[0])


def v1_rows(url: str, pair: str) -> list[tuple[object, ...]]:
    """All rows of V1."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            f"select to_jsonb(t)::text from public.{pair} t order by 1"
        ).fetchall()


def while_it_is_there(walk: Walk, url: str) -> None:
    """While everything is there: the official CLI's opinion, its types, the pair's own tests."""
    advice = walk.run(f'supabase db advisors --remote="{url}" --level warn')
    start = advice.find("[\n")
    assert json.loads(advice[start:] if start >= 0 else "[]") == []
    types = walk.run(f'supabase gen types --db-url "{url}" --schema public,crossfade')
    assert '"orders_v2": {' in types
    assert '"register_pair":' in types
    test = walk.folder / "supabase/tests/orders_converters.test.sql"
    with psycopg.connect(url, autocommit=True) as connection:
        assert "not ok" not in tap(connection, test.read_text())


def tap(connection: psycopg.Connection, sql: str) -> str:
    """Run a test file; return the lines it prints."""
    cursor = connection.execute(sql)
    lines = []
    while True:
        if cursor.description:
            lines += [str(row[0]) for row in cursor.fetchall()]
        if not cursor.nextset():
            break
    text = "\n".join(lines)
    assert "\nok 1 - " in f"\n{text}", text
    return text


def is_new(line: str, pair: str) -> bool:
    """True for what the owner's own pair file made."""
    mine = (f"{pair}_v2", f"{pair}_to_v", "chat_private", "public.chat", "public.copy_chat_message")
    return any(name in line for name in (mine if pair == "chat_messages" else mine[:2]))


def reset(url: str) -> None:
    """An empty project for the next example, which shares the server."""
    with psycopg.connect(url) as connection:
        for schema in ("chat_private", "crossfade_private", "crossfade", "supabase_migrations"):
            connection.execute(f"drop schema if exists {schema} cascade")
        connection.execute("drop schema public cascade; create schema public")
        connection.execute("grant usage on schema public to anon, authenticated, service_role")
