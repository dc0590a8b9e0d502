"""How live writers reach a table: the owner by psycopg, users by supabase-py and supabase-js."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Protocol

import psycopg
from postgrest.exceptions import APIError
from psycopg import sql
from supabase import Client

from crossfade.local.deno_runtime import deno_bin, deno_environment

SCRIPT = Path(__file__).parent / "fixtures" / "live_client.ts"
Values = dict[str, Any]


class RefusedError(Exception):
    """What a caller was told instead of an answer. ``code`` is the SQLSTATE."""

    def __init__(self, code: str | None, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Caller(Protocol):
    """One client of a project. Every call answers the rows it touched, whole."""

    upserts: bool

    def call(
        self, do: str, table: str, values: Values | None = None, match: Values | None = None
    ) -> list[Values]:
        """Insert, upsert, update, delete or select; raises RefusedError."""

    def close(self) -> None:
        """End it."""


class Python:
    """A signed-in user of supabase-py."""

    upserts = True

    def __init__(self, client: Client) -> None:
        self._client = client

    def call(
        self, do: str, table: str, values: Values | None = None, match: Values | None = None
    ) -> list[Values]:
        rows = self._client.table(table)
        given: list[Any] = [] if values is None else [values]
        query: Any = getattr(rows, do)(*given)
        try:
            found: list[Values] = (query.match(match) if match else query).execute().data
        except APIError as error:
            raise RefusedError(error.code, str(error.message)) from error
        return found

    def close(self) -> None:
        """Nothing is open."""


class JavaScript:
    """A signed-in user of supabase-js, in a process of Deno."""

    upserts = True

    def __init__(self, url: str, key: str, session: Values) -> None:
        self._process = subprocess.Popen(
            [
                str(deno_bin()),
                *("run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "-A"),
                *(str(SCRIPT), url, key, json.dumps(session)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=deno_environment(),
        )

    def call(
        self, do: str, table: str, values: Values | None = None, match: Values | None = None
    ) -> list[Values]:
        assert self._process.stdin
        assert self._process.stdout
        line = {"do": do, "table": table, "values": values, "match": match}
        told = {name: value for name, value in line.items() if value is not None}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["error"]:
            raise RefusedError(answer["error"].get("code"), answer["error"]["message"])
        rows: list[Values] = answer["data"]
        return rows

    def close(self) -> None:
        self._process.communicate(timeout=20)


class Owner:
    """The owner of the tables, past row-level security, as a back end with its own user's id."""

    upserts = False  # tests/sql/test_live_writers.py does

    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, autocommit=True)
        claims = json.dumps({"sub": "00000000-0000-4000-8000-0000000000ff"})
        self._db.execute("select set_config('request.jwt.claims', %s, false)", [claims])

    def call(
        self, do: str, table: str, values: Values | None = None, match: Values | None = None
    ) -> list[Values]:
        text = sql.SQL(_TEXTS[do]).format(
            table=sql.Identifier("public", table),
            columns=sql.SQL(", ").join(map(sql.Identifier, values or {})),
            edits=sql.SQL(", ").join(
                sql.SQL("{0} = n.{0}").format(sql.Identifier(name)) for name in values or {}
            ),
            found=sql.SQL(" and ").join(
                sql.SQL("t.{0} = m.{0}").format(sql.Identifier(name)) for name in match or {}
            ),
        )
        try:
            given = {"values": json.dumps(values), "match": json.dumps(match)}
            return [row[0] for row in self._db.execute(text, given)]
        except psycopg.Error as error:
            raise RefusedError(error.sqlstate, str(error)) from error

    def close(self) -> None:
        self._db.close()


_MATCH = "jsonb_populate_record(null::{table}, %(match)s) m"
_VALUES = "jsonb_populate_record(null::{table}, %(values)s) n"
_TEXTS = {
    "insert": "insert into {table} as t ({columns}) select {columns} from "
    + f"{_VALUES} returning to_jsonb(t)",
    "update": f"update {{table}} t set {{edits}} from {_VALUES}, {_MATCH} "
    "where {found} returning to_jsonb(t)",
    "delete": f"delete from {{table}} t using {_MATCH} where {{found}} returning to_jsonb(t)",
    "select": f"select to_jsonb(t) from {{table}} t, {_MATCH} where {{found}}",
}
