"""A project for tests of the command line: a stack of its own, and pairs made to measure."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.gateway import SupabaseGateway
from crossfade.local import LocalStack
from crossfade.project.config import Connection

_PAIR = """
create table public.{v1} (id bigint primary key, body text not null, note text);
create table public.{v2} (id bigint primary key, blocks jsonb not null, note text);
create function public.{to_v2}(a public.{v1}, b public.{v2}) returns setof public.{v2}
language sql stable set search_path = '' as $$
  select a.id, jsonb_build_array(jsonb_build_object('text', a.body)), a.note;
$$;
create function public.{to_v1}(a public.{v2}, b public.{v1}) returns setof public.{v1}
language sql stable set search_path = '' as $$
  select a.id, a.blocks -> 0 ->> 'text', a.note;
$$;
grant select, insert, update, delete on public.{v1}, public.{v2} to service_role;
insert into public.{v1} select i, 'text ' || i, null from generate_series(1, {rows}) i;
"""


@dataclass(frozen=True)
class Project:
    """A running stack and the ways into it."""

    stack: LocalStack

    @property
    def env(self) -> dict[str, str]:
        """What a shell would have exported."""
        info = self.stack.info
        return {
            "SUPABASE_URL": info.api_url,
            "SUPABASE_SECRET_KEY": info.secret_key,
            "CROSSFADE_ACTOR": "tester",
        }

    def run(self, *args: str, **env: str) -> Result:
        """Run the command line in this process."""
        return CliRunner().invoke(app, list(args), env={**self.env, **env})

    def ok(self, *args: str) -> Result:
        """Run it, and expect it to work."""
        result = self.run(*args)
        assert result.exit_code == 0, result.output
        return result

    def data(self, *args: str) -> Any:
        """Run a read and return its JSON."""
        return json.loads(self.ok(*args, "--json").stdout)

    def sql(self, query: str, *, superuser: bool = False) -> list[tuple[Any, ...]]:
        """Run statements as the owner, as a psql session would."""
        info = self.stack.info
        with psycopg.connect(info.admin_db_url if superuser else info.db_url) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def unmirrored(self, table: str, query: str) -> None:
        """Change rows of a table so that no trigger sees it, as only its owner can."""
        found = self.sql(
            "select tgname, tgenabled from pg_trigger"
            f" where tgrelid = 'public.{table}'::regclass and not tgisinternal"
        )
        again = {"O": "enable", "A": "enable always", "R": "enable replica", "D": "disable"}
        self.sql(
            ";".join(
                [
                    *(f'alter table public.{table} disable trigger "{name}"' for name, _ in found),
                    query,
                    *(
                        f'alter table public.{table} {again[state]} trigger "{name}"'
                        for name, state in found
                    ),
                ]
            )
        )

    def gateway(self) -> SupabaseGateway:
        """A gateway with the secret key."""
        info = self.stack.info
        return SupabaseGateway(Connection(info.api_url, SecretStr(info.secret_key), "tester"))

    def make_tables(self, name: str, rows: int = 100) -> None:
        """Create both tables and converters of a pair, with ``rows`` rows in V1."""
        parts = {
            "v1": sql.Identifier(name),
            "v2": sql.Identifier(f"{name}_v2"),
            "to_v2": sql.Identifier(f"{name}_to_v2"),
            "to_v1": sql.Identifier(f"{name}_to_v1"),
            "rows": sql.Literal(rows),
        }
        with psycopg.connect(self.stack.info.db_url) as connection:
            connection.execute(sql.SQL(_PAIR).format(**parts))

    def register(self, name: str) -> Result:
        """Register the pair of ``make_tables``."""
        return self.run(
            *("pair", "register", name, "--yes"),
            *("--v1", f"public.{name}", "--v2", f"public.{name}_v2"),
            *("--to-v2", f"public.{name}_to_v2", "--to-v1", f"public.{name}_to_v1"),
        )

    def make_pair(self, name: str, *, rows: int = 100, stage: str = "dualwrite") -> None:
        """Create, register and bring to a stage, whatever that stage asks for."""
        self.make_tables(name, rows)
        assert self.register(name).exit_code == 0
        self.ok("settings", "set", "shadow_min_reads", "0", "--reason", "test", "--yes")
        for step in ("dualwrite", "shadow", "live"):
            if step == "shadow":
                self.ok("backfill", "run", name, "--yes")
            if step == "live":
                self.ok("verify", "run", name)
            self.ok("stage", "set", name, step, "--reason", "test", "--yes")
            if step == stage:
                return


@contextmanager
def running_project(data_dir: Path, **options: Any) -> Iterator[Project]:
    """Start a stack without functions for as long as the block lasts."""
    with LocalStack(data_dir, functions=(), pairs=(), durable=False, **options) as stack:
        yield Project(stack)
