"""Take crossfade out of a project again: its edge code, its record, and, by SQL, its schemas.

The migrations stay where the database has seen them, because ``supabase db push`` refuses a project
that misses applied ones. One more migration then undoes them. The owner's tables, rows, functions
and converters stay, and so does everything the owner edited.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from crossfade.core.errors import ConfigError
from crossfade.project.folder import RECORD, SCHEMA, ProjectFolder, digest_of, open_project

CONCERN: Final = "crossfade_uninstall"
UNINSTALLATION: Final = re.compile(rf"\d{{14}}_{CONCERN}\.sql")
"""Whole name of the migration that takes crossfade away."""


@dataclass(frozen=True, slots=True)
class UninstallPlan:
    """What an uninstallation does.

    Attributes:
        migration: the migration to write; None when the old ones are removed instead.
        sql: its text.
        removals: files to remove.
        kept: files of ours that their owner edited.
        schemas: what config.toml exposes afterwards; empty when it need not change.
    """

    project: ProjectFolder
    migration: str | None
    sql: str
    removals: tuple[str, ...]
    kept: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()

    def todo(self, *, config_edited: bool = False) -> tuple[str, ...]:
        """Return what is left to a person, in order."""
        lines = []
        if self.schemas and not config_edited:
            names = ", ".join(f'"{name}"' for name in self.schemas)
            lines.append(f"in supabase/config.toml, under [api]: schemas = [{names}]")
        lines.append("on the hosted project: settings, Data API, exposed schemas: remove crossfade")
        if self.migration:
            lines.append("take every pair to stage off or complete, then run: supabase db push")
        return tuple(lines)


def plan_uninstall(
    project: Path, *, sql: Path, pushed: bool = True, now: datetime | None = None
) -> UninstallPlan:
    """Say what there is to remove. Writes nothing.

    Args:
        project: folder that holds ``supabase/``.
        sql: our uninstall script.
        pushed: a database has seen our migrations; False removes the files instead.
        now: for the timestamp.

    Raises:
        ConfigError: nothing of ours is there.
    """
    folder = open_project(project)
    record = folder.record()
    if record.version is None:
        raise ConfigError(
            f'crossfade is not installed in "{project}": it has no {RECORD}',
            hint="Run: crossfade install, if its files are there without a record",
        )
    removals, kept = list[str](), list[str]()
    ours = {item.digest for item in record.files.values()}
    for key, item in record.files.items():
        content = folder.text(item.target)
        if key.startswith("functions/") and content is not None:
            (removals if digest_of(content) == item.digest else kept).append(item.target)
    for name in folder.migration_names():
        target = f"supabase/migrations/{name}"
        if not pushed and digest_of(folder.text(target) or b"") in ours:
            removals.append(target)
    stamp = folder.next_stamp(now or datetime.now(UTC))
    exposed = folder.exposed_schemas()
    return UninstallPlan(
        folder,
        f"supabase/migrations/{stamp}_{CONCERN}.sql" if pushed else None,
        without_transaction(sql.read_text(encoding="utf-8")),
        (*sorted(removals), RECORD),
        tuple(sorted(kept)),
        tuple(name for name in exposed if name != SCHEMA) if SCHEMA in exposed else (),
    )


def apply_uninstall(plan: UninstallPlan, *, edit_config: bool = False) -> None:
    """Write the migration first, then remove; the record goes last."""
    if plan.migration:
        plan.project.write(plan.migration, plan.sql.encode())
    if edit_config and plan.schemas:
        plan.project.write("supabase/config.toml", plan.project.edited_config(plan.schemas))
    for target in plan.removals:
        plan.project.remove(target)


def without_transaction(sql: str) -> str:
    """Return a script as a migration: who applies a migration brings the transaction."""
    return "\n".join(line for line in sql.splitlines() if line not in ("begin;", "commit;")) + "\n"
