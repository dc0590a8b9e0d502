"""Apply migrations the way the Supabase CLI does, so that its ``db push`` finds nothing to do."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from crossfade.local.errors import StackStartError

_FILE_NAME = re.compile(r"(?P<version>\d{14})_(?P<name>.+)\.sql")
_CONCURRENTLY = re.compile(
    rb"\b(create\s+(unique\s+)?|drop\s+)index\s+concurrently\b", re.IGNORECASE
)
_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text primary key,
  statements text[],
  name text
);
create table if not exists supabase_migrations.crossfade_local_pairs (
  name text primary key,
  digest text not null
);
"""


def apply_migrations(dsn: str, folder: Path, progress: Callable[[str], None]) -> int:
    """Apply the files that are not recorded yet, in order, one transaction each.

    A file whose one statement makes or drops an index concurrently runs outside a transaction.

    Args:
        dsn: connection URL; the role owns what the migrations make.
        folder: holds ``<14 digits>_<name>.sql`` files.
        progress: told about each file.

    Returns:
        How many were applied.

    Raises:
        StackStartError: a file failed; those before it stay applied.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute(_HISTORY)
        rows = connection.execute("select version from supabase_migrations.schema_migrations")
        applied = {str(row[0]) for row in rows}
        connection.commit()
        count = 0
        for path in sorted(folder.glob("*.sql")):
            match = _FILE_NAME.fullmatch(path.name)
            if match is None or match["version"] in applied:
                continue
            progress(f"applying {path.name}")
            _apply(connection, path)
            connection.execute(
                "insert into supabase_migrations.schema_migrations (version, name, statements)"
                " values (%s, %s, %s)",
                (match["version"], match["name"], split_statements(path.read_text("utf-8"))),
            )
            connection.commit()
            count += 1
    return count


def apply_pairs(
    dsn: str, folder: Path, names: Sequence[str], progress: Callable[[str], None]
) -> int:
    """Apply the named pair files, unless the database has got them in exactly this form.

    Returns:
        How many were applied.

    Raises:
        StackStartError: a file is missing or failed.
    """
    count = 0
    with psycopg.connect(dsn) as connection:
        connection.execute(_HISTORY)
        for name in names:
            path = folder / f"{name}.sql"
            if not path.exists():
                raise StackStartError(f'Cannot apply pair "{name}": {path} does not exist')
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            row = connection.execute(
                "select from supabase_migrations.crossfade_local_pairs"
                " where name = %s and digest = %s",
                (name, digest),
            ).fetchone()
            if row is None:
                progress(f"applying pair {name}")
                _apply(connection, path)
                connection.execute(
                    "insert into supabase_migrations.crossfade_local_pairs (name, digest)"
                    " values (%s, %s) on conflict (name) do update set digest = excluded.digest",
                    (name, digest),
                )
                count += 1
            connection.commit()
    return count


def _apply(connection: psycopg.Connection, path: Path) -> None:
    text = path.read_bytes()
    is_alone = _CONCURRENTLY.search(text) and len(split_statements(text.decode())) == 1
    try:
        if is_alone:
            connection.commit()
            connection.autocommit = True
        connection.execute(text, prepare=False)
    except psycopg.Error as error:
        connection.rollback()
        detail = error.diag.message_primary or str(error)
        context = f" ({error.diag.context.splitlines()[0]})" if error.diag.context else ""
        raise StackStartError(f"{path.name} failed: {detail}{context}") from error
    finally:
        if is_alone:
            connection.autocommit = False


_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)|;""",
    re.DOTALL,
)


def split_statements(sql: str) -> list[str]:
    """Split a script at its semicolons, minding quotes, dollar quotes and comments."""
    statements = []
    start = 0
    for token in _TOKEN.finditer(sql):
        if token.group() == ";":
            statements.append(sql[start : token.start()].strip())
            start = token.end()
    statements.append(sql[start:].strip())
    return [statement for statement in statements if statement]
