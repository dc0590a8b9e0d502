"""Command and database of different releases: what is to be upgraded. Pure."""

import re
from typing import Final

from crossfade import __version__
from crossfade.core.contract import SCHEMA_VERSION
from crossfade.core.errors import CrossfadeError, UnexpectedAnswerError, UnknownCallError

_SUFFIX: Final = re.compile(r"\D.*")
UPGRADE_DATABASE: Final = "Run in the project: crossfade upgrade, then: supabase db push"
UPGRADE_COMMAND: Final = "Run: pip install --upgrade crossfade"


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions are ordered by; a pre-release counts as its release."""
    return tuple(int(_SUFFIX.sub("", part) or 0) for part in version.split(".")[:3])


def newer_schema(found: int, url: str) -> str:
    """Say that the database may have become something this command does not know; "" when not."""
    if found <= SCHEMA_VERSION:
        return ""
    return (
        f"Schema version {found} at {url} is newer than {SCHEMA_VERSION}, for which this command"
        f" was written. {UPGRADE_COMMAND}"
    )


def way_out(database: str, command: str = __version__) -> str:
    """Say which of the two is older and how to upgrade it.

    Args:
        database: the release that was installed last; empty where none is known.
        command: the release of the command.
    """
    if version_key(database) == version_key(command):
        return ""
    told = f"The database has crossfade {database or 'of an older release'}, this command {command}"
    older = version_key(database) < version_key(command)
    return f"{told}. {UPGRADE_DATABASE if older else UPGRADE_COMMAND}"


def is_of_versions(error: CrossfadeError) -> bool:
    """Whether different releases of command and database may be the cause of an error."""
    return isinstance(error, UnknownCallError | UnexpectedAnswerError)


def explained(error: CrossfadeError, database: str) -> CrossfadeError:
    """Return the error with what to upgrade as its hint; unchanged where nothing is to be."""
    hint = way_out(database)
    return type(error)(error.message, hint=hint, code=error.code) if hint else error
