"""The database schema as one migration: the files of ``sql/schema``, joined in their order.

``python -m crossfade.schema`` writes ``supabase/migrations/<STAMP>_crossfade_<version>.sql``; a
test compares the committed file with what the folder gives. The folder is the one home of every
object, and a release ships exactly this one file.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crossfade import __version__
from crossfade.core.errors import ConfigError
from crossfade.project import resources

STAMP: Final = "20261129000000"
"""Timestamp of this release's migration; an installation replaces it by a fresh one."""

ORDER: Final = "order.txt"
FUNCTIONS: Final = "-- {functions}"
"""Where clean_up.sql gets the list of all functions of the release."""

_FUNCTION: Final = re.compile(
    r"^create or replace function ((?:crossfade|crossfade_private)\.\w+)\(", re.MULTILINE
)
_PART: Final = re.compile(r"'(?:[^']|'')*'|[][(),]|[^][(),']+")
_DEPTH: Final = {"(": 1, "[": 1, ")": -1, "]": -1}


def files(folder: Path) -> tuple[str, ...]:
    """Return the files of the schema in the order in which they are joined.

    Raises:
        ConfigError: the list and the folder disagree.
    """
    lines = (folder / ORDER).read_text(encoding="utf-8").splitlines()
    listed = tuple(line for line in lines if line and not line.startswith("#"))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.sql")}
    wrong = sorted({*found.symmetric_difference(listed)} | _twice(listed))
    if wrong:
        raise ConfigError(
            f"{folder / ORDER} must name each file once: {', '.join(wrong)}",
            hint="Name a new file behind those whose functions it calls",
        )
    return listed


def migration_name(version: str = __version__) -> str:
    """Return the name of the migration of this release."""
    return f"{STAMP}_crossfade_{version}.sql"


def migration_text(folder: Path, version: str = __version__) -> str:
    """Return the schema as one script; it is applied in one transaction."""
    parts = {name: (folder / name).read_text(encoding="utf-8") for name in files(folder)}
    made = "\n".join(f"-- {name}" for text in parts.values() for name in signatures(text))
    head = f"-- crossfade {version}. Made of sql/schema by: make migration\n"
    return head + "".join(
        f"\n-- {name} {'-' * (96 - len(name))}\n\n{text.replace(FUNCTIONS, made)}"
        for name, text in parts.items()
    )


def signatures(sql: str) -> Iterator[str]:
    """Yield the functions that a script makes, as ``schema.name(type, type)``."""
    for match in _FUNCTION.finditer(sql):
        types = (_type_of(argument) for argument in _arguments(sql, match.end()))
        yield f"{match[1]}({', '.join(types)})"


def _arguments(sql: str, start: int) -> Iterator[str]:
    """Yield the arguments of a function; ``start`` is behind its opening parenthesis."""
    depth, argument = 0, ""
    for part in _PART.finditer(sql, start):
        text = part.group()
        depth += _DEPTH.get(text, 0)
        if depth < 0 or (depth == 0 and text == ","):
            if argument.strip():
                yield argument
            argument = ""
        else:
            argument += text
        if depth < 0:
            return


def _type_of(argument: str) -> str:
    words = re.split(r"\sdefault\s", argument.strip())[0].split()
    return " ".join(words[1:])


def _twice(names: tuple[str, ...]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def write(schema: Path, migrations: Path) -> Path:
    """Write the migration of this version and return its path."""
    path = migrations / migration_name()
    path.write_text(migration_text(schema), encoding="utf-8")
    return path


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{write(resources.schema_dir(), resources.migrations_dir())}\n")
    except ConfigError as error:
        sys.exit(error.line())
