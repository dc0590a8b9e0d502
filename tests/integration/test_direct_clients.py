"""An app without an edge function: supabase-js with the code of CLIENTS.md, and supabase-py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from supabase import Client, ClientOptions, create_client
from typer.testing import CliRunner

from crossfade.cli import app
from crossfade.local import LocalStack
from tests.sql.control import call, force

from .deno_scripts import told_by
from .documented import blocks

PAGE = Path(__file__).parents[2] / "control" / "CLIENTS.md"
SCRIPT = Path(__file__).parent / "fixtures" / "direct_client.ts"
TABLES = """
create sequence public.note_id;
create table public.notes (
  id bigint primary key default nextval('public.note_id'), owner_id uuid not null, body text);
create table public.notes_v2 (
  id bigint primary key default nextval('public.note_id'), owner_id uuid not null, parts text[]);
create function public.notes_to_v2(a public.notes, o public.notes_v2)
returns setof public.notes_v2 language sql stable set search_path = ''
begin atomic select a.id, a.owner_id, array[a.body]; end;
create function public.notes_to_v1(b public.notes_v2, o public.notes)
returns setof public.notes language sql stable set search_path = ''
begin atomic select b.id, b.owner_id, array_to_string(b.parts, ' '); end;
alter table public.notes enable row level security;
alter table public.notes_v2 enable row level security;
create policy own on public.notes to authenticated using (owner_id = (select auth.uid()));
create policy own on public.notes_v2 to authenticated using (owner_id = (select auth.uid()));
grant select, insert, update, delete on public.notes, public.notes_v2 to authenticated;
grant usage on sequence public.note_id to authenticated;
"""


@dataclass
class App:
    """A user's app: what it was told, in Python and in JavaScript."""

    stack: LocalStack
    client: Client
    user: str
    session: dict[str, str]
    folder: Path

    def javascript(self, *words: str) -> Any:
        """Run the page's module for one action; return what it printed."""
        info = self.stack.info
        session = json.dumps(self.session)
        module = str(self.folder / "notes.js")
        return told_by(
            SCRIPT, module, info.api_url, info.publishable_key, session, self.user, *words
        )

    def backend(self) -> object:
        """What my_backend tells supabase-py."""
        return self.client.schema("crossfade").rpc("my_backend", {"pair": "notes"}).execute().data

    def count(self, table: str) -> int:
        return len(self.client.table(table).select("id").execute().data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page."""
    made = tmp_path_factory.mktemp("app")
    for block in blocks(PAGE):
        if block.file:
            (made / block.file).write_text(block.text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def stack(fresh_dir: Callable[[str], Path]) -> Iterator[LocalStack]:
    """A project of two tables and no function."""
    with LocalStack(fresh_dir("direct"), functions=(), pairs=(), durable=False) as running:
        with psycopg.connect(running.info.db_url, autocommit=True) as db:
            db.execute(TABLES)
            names = [f"public.notes{part}" for part in ("", "_v2", "_to_v2", "_to_v1")]
            call(db, "register_pair", "notes", *names)
        running.restart_api()
        yield running


@pytest.fixture
def sign_up(stack: LocalStack, folder: Path, http: httpx.Client) -> Callable[[str], App]:
    """A function that signs a user up."""

    def make(name: str) -> App:
        options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        client = create_client(stack.info.api_url, stack.info.publishable_key, options)
        answer = client.auth.sign_up({"email": f"{name}@example.com", "password": "pass-word-1"})
        assert answer.session is not None
        assert answer.user is not None
        session = {
            "access_token": answer.session.access_token,
            "refresh_token": answer.session.refresh_token,
        }
        return App(stack, client, answer.user.id, session, folder)

    return make


@pytest.fixture
def cli_run(stack: LocalStack) -> Callable[..., str]:
    """A function that runs a command, which must succeed, with the secret key."""

    def run(*words: str) -> str:
        environment = {
            "SUPABASE_URL": stack.info.api_url,
            "SUPABASE_SECRET_KEY": stack.info.secret_key,
        }
        done = CliRunner().invoke(app, words, env=environment)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_two_users_see_each_note_once_from_off_to_rampdown_and_under_a_kill_switch(
    stack: LocalStack, sign_up: Callable[[str], App], cli_run: Callable[..., str]
) -> None:
    ada, bob = sign_up("ada"), sign_up("bob")
    written: dict[str, list[str]] = {ada.user: [], bob.user: []}

    def write(stage: str) -> None:
        for user in (ada, bob):
            text = f"{stage} {user.user[:4]}"
            written[user.user].append(text)
            assert user.javascript("add", text) == written[user.user], stage

    with psycopg.connect(stack.info.db_url, autocommit=True) as db:
        write("off")
        call(db, "set_stage", "notes", "dualwrite", "test")
        write("dualwrite")
        run = call(db, "start_backfill", "notes")["run"]["id"]
        while call(db, "backfill_batch", run)["state"] != "finished":
            pass
        db.execute(cli_run("pair", "client-policy", "notes").encode())
        for stage, backends in (("live", (2, 1)), ("rampdown", (2, 2))):
            call(db, "set_cohort", "notes", {"enabled_user_ids": [ada.user]}, "test")
            force(db, "update crossfade.pairs set stage = %s", stage)
            assert (ada.backend(), bob.backend()) == backends
            write(stage)
            assert ada.count("notes_v2") == ada.count("notes") == len(written[ada.user])
            assert bob.count("notes_v2") == (bob.count("notes") if backends[1] == 2 else 0)
        call(db, "engage_kill_switch", "disable_v2_messages", "test")
        assert (ada.backend(), bob.backend()) == (1, 1)
        write("killed")
        call(db, "release_kill_switch", "disable_v2_messages", "test")
        write("released")
        counted = json.loads(cli_run("pair", "writes", "notes", "--json"))
        # In off nothing is counted; under the switch both went by V1.
        assert [counted["sides"][side]["user"] for side in ("1", "2")] == [5, 5]
        assert db.execute("select count(*) from crossfade.mirror_failures").fetchone() == (0,)
