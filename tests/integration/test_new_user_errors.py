"""Every error a new user can make on the way: one line, with the value and the next step."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.local import LocalStack
from crossfade.project.folder import RECORD

TABLES = """
create table public.error_keyless (a integer);
create table public.error_fine (id bigint primary key, body text);
create table public.error_fine_v2 (id bigint primary key, body text, kind text not null);
create function public.error_to_v2(a public.error_fine, b public.error_fine_v2)
returns setof public.error_fine_v2 language sql stable as $$ select a.id, a.body, 'x' $$;
create function public.error_to_v1(a public.error_fine_v2, b public.error_fine)
returns setof public.error_fine language sql stable as $$ select a.id, a.body $$;
"""
CLEAN = """
drop function public.error_to_v2, public.error_to_v1;
drop table public.error_keyless, public.error_fine, public.error_fine_v2;
"""


@dataclass(frozen=True)
class Place:
    """A project folder, and the addresses of two projects: with crossfade and without."""

    folder: Path
    env: dict[str, str]
    plain: dict[str, str]

    def file(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@dataclass(frozen=True)
class Mistake:
    """One mistake: how it is made, and what the message must say (the value, the next step)."""

    name: str
    command: str
    says: str
    step: str
    prepare: Callable[[Place], None] = lambda _: None
    env: tuple[tuple[str, str | None], ...] = ()
    plain: bool = False


def record(version: str) -> Callable[[Place], None]:
    text = json.dumps({"version": version, "files": {}})
    return lambda place: place.file(RECORD, text)


def no_supabase(place: Place) -> None:
    (place.folder / "supabase").rmdir()


REASON = '--reason "x" --yes'
REGISTER = (
    "pair register error_fine --v1 public.error_fine --v2 public.error_fine_v2"
    " --to-v2 public.error_to_v2 --to-v1 public.error_to_v1 --yes"
)
MISTAKES = [
    # Where is the project?
    Mistake("no address", "status", "No SUPABASE_URL", "Set SUPABASE_URL and SUPABASE_SECRET_KEY",
            env=(("SUPABASE_URL", None), ("SUPABASE_SECRET_KEY", None))),
    Mistake("no key", "status", "SUPABASE_SECRET_KEY is not", "project's settings, API keys",
            env=(("SUPABASE_SECRET_KEY", None),)),
    Mistake("no url", "status", "SUPABASE_URL is not", "Set it to the project's URL",
            env=(("SUPABASE_URL", None),)),
    Mistake("url without https", "status", '"abc.supabase.co" is not a URL', "looks like https://",
            env=(("SUPABASE_URL", "abc.supabase.co"),)),
    Mistake("publishable key", "status", "holds a publishable key", "Take the secret key",
            env=(("SUPABASE_SECRET_KEY", "sb_publishable_x"),)),
    Mistake("key with a space", "status", "holds a space", "Take the secret key",
            env=(("SUPABASE_SECRET_KEY", "sb_secret a"),)),
    Mistake("wrong key", "status", "401|403", "SUPABASE_SECRET_KEY|secret key",
            env=(("SUPABASE_SECRET_KEY", "sb_secret_wrong"),)),
    Mistake("nobody there", "status", r"127\.0\.0\.1:9", "SUPABASE_URL|Check",
            env=(("SUPABASE_URL", "http://127.0.0.1:9"),)),
    Mistake("not installed there", "flags list", "crossfade", "crossfade install|exposed",
            plain=True),
    # Installing
    Mistake("no such folder", "install --into nowhere", 'no folder "nowhere"', "--into"),
    Mistake("no supabase init", "install", "no folder supabase", "supabase init", no_supabase),
    Mistake("inside supabase", "install --into supabase", "folder supabase itself", "--into",
            lambda place: place.file("supabase/config.toml", "")),
    Mistake("broken config", "install --yes", "not valid TOML", "Mend it",
            lambda place: place.file("supabase/config.toml", "[api")),
    Mistake("odd config", "install --yes", "not a list of names", "schemas = ",
            lambda place: place.file("supabase/config.toml", "[api]\nschemas = 3")),
    Mistake("broken record", "install --yes", "not what crossfade wrote", "version control",
            lambda place: place.file(RECORD, "<<<<<<< HEAD")),
    Mistake("older command", "install --yes", "crossfade 99.0.0 installed", "pip install",
            record("99.0.0")),
    Mistake("nobody to ask", "install", "no terminal to ask", "--yes"),
    Mistake("a file in the way", "install --yes", "Cannot write", "right to write",
            lambda place: place.file("supabase/migrations", "")),
    Mistake("upgrade first", "upgrade", "is not installed", "crossfade install"),
    Mistake("uninstall first", "uninstall", "is not installed", "crossfade install"),
    # Writing a pair
    Mistake("unknown table", "pair new p --v1 public.mesages --yes", "public.mesages",
            "There are: .*public.chat"),
    Mistake("no key", "pair new p --v1 public.error_keyless --yes", "no primary key",
            "Change what is named"),
    Mistake("bad pair name", "pair new My-Pair --v1 public.error_fine --yes", "My-Pair",
            "Use 1 to 40 of a-z"),
    Mistake("in a pair already", "pair new p --v1 public.chat_messages --yes",
            'belongs to pair "chat_messages"', "crossfade pair show"),
    Mistake("written already", "pair new p --v1 public.error_fine --yes", "20260101000000_p_pair",
            "Edit that one",
            lambda place: place.file("supabase/migrations/20260101000000_p_pair.sql", "")),
    Mistake("unknown example", "pair example orderz", "orderz", "There are: .*orders"),
    Mistake("no such table", REGISTER.replace("error_fine_v2", "error_v3"), "error_v3",
            "with its schema"),
    Mistake("converters swapped", REGISTER.replace("error_to_v2", "error_to_v1"), "wrong type",
            "register again"),
    Mistake("name taken", REGISTER.replace("register error_fine", "register chat_messages"),
            "exists with other tables", "choose another name"),
    # Going through the stages
    Mistake("unknown pair", "pair check chat_message", "chat_message",
            "Did you mean chat_messages"),
    Mistake("plan of nothing", "plan nothing", "nothing", "There are: .*chat_messages"),
    Mistake("unknown stage", "stage set chat_messages lve " + REASON, "lve", "live|--help"),
    Mistake("too far", "stage set chat_messages live " + REASON, "dualwrite comes after off",
            "crossfade stage set chat_messages dualwrite"),
    Mistake("copy before mirroring", "backfill run chat_messages --yes", "chat_messages",
            "stage set|dualwrite"),
    Mistake("no reason", "pair remove chat_messages --yes", "without a reason", "--reason"),
    Mistake("too precise", "cohort set chat_messages --percentage 33.3333 " + REASON, "33.3333",
            "three decimals"),
    Mistake("unknown flag", "flags set enable_cashing --enable " + REASON, "enable_cashing",
            "Did you mean enable_caching"),
    Mistake("unknown switch", "kill engage disable_v2", "disable_v2",
            "Did you mean .*disable_v2_messages"),
    Mistake("unknown setting", "settings set shadow_reads 0 " + REASON, "shadow_reads",
            "Did you mean|There are|settings list"),
    Mistake("unknown command", "pairs list", "pairs", "Did you mean|--help"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tables(stack: LocalStack) -> Iterator[None]:
    with psycopg.connect(stack.info.db_url, autocommit=True) as connection:
        connection.execute(TABLES)
        yield
        connection.execute(CLEAN)


@pytest.fixture
def place(
    tables: None,
    stack: LocalStack,
    plain_stack: LocalStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    (tmp_path / "supabase").mkdir()
    monkeypatch.chdir(tmp_path)
    addresses = [
        {"SUPABASE_URL": one.info.api_url, "SUPABASE_SECRET_KEY": one.info.secret_key}
        for one in (stack, plain_stack)
    ]
    return Place(tmp_path, *addresses)


def make(mistake: Mistake, place: Place) -> Result:
    """Make the mistake."""
    mistake.prepare(place)
    env: dict[str, str | None] = dict(place.plain if mistake.plain else place.env)
    env |= dict(mistake.env)
    return CliRunner().invoke(app, shlex.split(mistake.command), env=env)


def test_at_least_25_are_listed_and_no_two_are_the_same() -> None:
    assert len(MISTAKES) >= 25
    assert len({(m.command, m.says) for m in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_message_names_the_value_and_the_next_step(mistake: Mistake, place: Place) -> None:
    result = make(mistake, place)
    assert result.exit_code in (1, 2), result.output
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: "), result.output
    assert "Unexpected error" not in result.output
    assert re.search(mistake.says, line), line
    assert re.search(mistake.step, line), line
    assert "sb_secret_" not in result.output.replace("sb_secret_...", "")


def test_a_pair_that_is_not_finished_says_where_to_look(place: Place, stack: LocalStack) -> None:
    arguments = ["pair", "new", "unfinished", "--v1", "public.error_fine"]
    arguments += ["--v2", "public.error_fine_v2", "--yes"]
    done = CliRunner().invoke(app, arguments, env=place.env)
    assert done.exit_code == 0, done.output
    assert "to decide: to_v2, kind" in done.stderr
    (file,) = place.folder.glob("supabase/migrations/*_unfinished_pair.sql")
    with psycopg.connect(stack.info.db_url) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(file.read_bytes())
    assert caught.value.diag.message_primary == "Pair unfinished is not finished: 1 to decide"
    assert caught.value.diag.message_hint is not None
    assert f"DECIDE in supabase/migrations/{file.name}" in caught.value.diag.message_hint
