"""Dump a database and restore it, in the ways people do: both tables must come back as dumped."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

from crossfade.local.postgres import PostgresServer

from .databases import Place, admin, drop, new_name
from .worlds import TABLES

WAYS = ("whole", "replica mode", "disabled triggers")


def move(
    place: Place, rng: random.Random, tables: Sequence[str] = tuple(TABLES.values())
) -> list[str]:
    """Replace the database by its dump, restored here or in another cluster.

    Returns:
        What is not as it was.
    """
    way = rng.choice(WAYS)
    source, before = Place(place.server, place.database), _contents(place, tables)
    place.database = new_name()
    if place.spare is not None and rng.random() < 0.5:
        place.server, place.spare = place.spare(), lambda: source.server
    target = place.server
    with admin(target) as connection:
        connection.execute(
            f"create database {place.database} owner postgres template template0".encode()
        )
    try:
        if way == "whole":
            _load(place, _dump(source))
        else:
            _load(place, _dump(source, "--schema-only"))
            triggers = ["--disable-triggers"] if way == "disabled triggers" else []
            mode = "replica" if way == "replica mode" else "origin"
            _load(place, _dump(source, "--data-only", *triggers), mode=mode)
    except subprocess.CalledProcessError as error:
        return [f"restoring ({way}): {error.stderr.decode()[-600:]}"]
    finally:
        drop(source)
    after = _contents(place, tables)
    return [f"restored ({way}) is not as dumped"] if after != before else []


def _contents(place: Place, tables: Sequence[str]) -> list[list[str]]:
    with place.connect() as connection:
        texts = [f"select t::text from {table} as t order by t::text" for table in tables]
        return [[row[0] for row in connection.execute(text.encode())] for text in texts]


def _dump(place: Place, *options: str) -> bytes:
    return _run(
        place.server, "pg_dump", [*options, place.server.dsn("supabase_admin", place.database)]
    )


def _load(place: Place, dump: bytes, mode: str = "origin") -> None:
    dsn = place.server.dsn("supabase_admin", place.database)
    _run(
        place.server,
        "psql",
        ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, dsn],
        dump,
        {"PGOPTIONS": f"-c session_replication_role={mode}"},
    )


def _run(
    server: PostgresServer,
    program: str,
    arguments: Sequence[str],
    data: bytes = b"",
    more: dict[str, str] | None = None,
) -> bytes:
    command = [str(Path(server.bin_dir) / program), *arguments]
    return subprocess.run(
        command, input=data, capture_output=True, check=True, env={**os.environ, **(more or {})}
    ).stdout
