"""Migrations that a command writes into somebody's project."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from crossfade.cli.output import say
from crossfade.core.errors import InvalidValueError
from crossfade.project.folder import later, open_project


def write_migrations(
    path: Path, wanted: Mapping[str, str], *, keep_edited: bool = False
) -> list[str]:
    """Write migrations (name without stamp and ending -> SQL) in their order; return what is new.

    Raises:
        InvalidValueError: one of that name says something else, and edited ones are not kept.
    """
    project = open_project(path)
    found = {n[15:-4]: n for n in project.migration_names() if n[15:-4] in wanted}
    for ending, name in found.items():
        there = project.text(f"supabase/migrations/{name}")
        if there != wanted[ending].encode() and not keep_edited:
            raise InvalidValueError(
                f"supabase/migrations/{name} is not what this plan writes",
                hint="Remove it if no database has seen it, or write another file with --out",
            )
    if found.keys() == wanted.keys():
        say(f"{', '.join(found.values())}: there already; nothing to do")
        return []
    written = []
    stamp = project.next_stamp(datetime.now(UTC), len(wanted))
    for ending in (name for name in wanted if name not in found):
        target = f"supabase/migrations/{stamp}_{ending}.sql"
        project.write(target, wanted[ending].encode())
        written.append(target)
        stamp = later(stamp)
    return written
