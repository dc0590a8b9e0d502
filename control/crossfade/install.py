"""Copy the migrations and the shared edge code into somebody's Supabase project.

Migrations get fresh timestamps later than the project's own, because ``supabase db push`` refuses
older ones. ``supabase/crossfade.json`` remembers what was copied, so that a second run copies only
what is new: a migration that changed since is copied again under a new timestamp (all of ours may
run twice), and an edge file that its owner edited is left alone.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crossfade.errors import ConfigError

MANIFEST: Final = "supabase/crossfade.json"
_STAMPED = re.compile(r"(\d{14})_(.+)\.sql")
_SHARED: Final = "_shared/crossfade"


@dataclass(frozen=True, slots=True)
class Copy:
    """One file to write. ``key`` is its name in the manifest."""

    key: str
    source: Path
    target: str
    digest: str


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """What an installation does. ``kept``: edited by their owner; ``todo``: for a person."""

    project: Path
    copies: tuple[Copy, ...]
    kept: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()


def plan_install(
    project: Path, *, migrations: Path, functions: Path, now: datetime | None = None
) -> InstallPlan:
    """Compare ``project`` with what we bring. Writes nothing.

    Args:
        project: folder that holds ``supabase/``.
        migrations: our migrations.
        functions: our edge functions; only the shared part is copied.
        now: for the timestamps.

    Raises:
        ConfigError: ``project`` is not a Supabase project.
    """
    if not (project / "supabase").is_dir():
        raise ConfigError(
            f'"{project}" has no folder supabase', hint="Run there first: supabase init"
        )
    known = _read_manifest(project)
    edge, kept = _edge_copies(project, functions, known)
    copies = (*_migration_copies(project, migrations, known, now or datetime.now(UTC)), *edge)
    return InstallPlan(project, copies, kept, _todo(project, bool(copies)))


def apply_install(plan: InstallPlan) -> None:
    """Write the files, then the manifest, so that an interrupted run is done again."""
    known = dict(_read_manifest(plan.project))
    for copy in plan.copies:
        target = plan.project / copy.target
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(copy.source.read_bytes())
        known[copy.key] = copy.digest
    if plan.copies:
        text = json.dumps({"files": dict(sorted(known.items()))}, indent=2)
        (plan.project / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _migration_copies(
    project: Path, migrations: Path, known: Mapping[str, str], now: datetime
) -> tuple[Copy, ...]:
    folder = project / "supabase" / "migrations"
    present = [path.name for path in folder.glob("*.sql")] if folder.is_dir() else []
    stamps = [match[1] for name in present if (match := _STAMPED.fullmatch(name))]
    stamp = max([now.strftime("%Y%m%d%H%M%S"), *(_next(item) for item in stamps)])
    copies: list[Copy] = []
    for source in sorted(migrations.glob("*_crossfade_*.sql")):
        name = source.name.split("_", 1)[1]
        digest, key = _digest(source), f"migrations/{name}"
        there = any(item.endswith(f"_{name}") for item in present)
        if known.get(key) == digest and there:
            continue
        copies.append(Copy(key, source, f"supabase/migrations/{stamp}_{name}", digest))
        stamp = _next(stamp)
    return tuple(copies)


def _next(stamp: str) -> str:
    try:
        moment = datetime.strptime(stamp, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return f"{int(stamp) + 1:014d}"  # fourteen digits that are no time, as some projects have
    return (moment + timedelta(seconds=1)).strftime("%Y%m%d%H%M%S")


def _edge_copies(
    project: Path, functions: Path, known: Mapping[str, str]
) -> tuple[tuple[Copy, ...], tuple[str, ...]]:
    copies: list[Copy] = []
    kept: list[str] = []
    for source in sorted((functions / _SHARED).rglob("*")):
        if not source.is_file():
            continue
        key = f"functions/{source.relative_to(functions).as_posix()}"
        target, digest = f"supabase/{key}", _digest(source)
        there = project / target
        current = _digest(there) if there.is_file() else None
        if current == digest:
            continue
        if current is not None and current != known.get(key):
            kept.append(target)
            continue
        copies.append(Copy(key, source, target, digest))
    return tuple(copies), tuple(kept)


def _todo(project: Path, copied: bool) -> tuple[str, ...]:
    todo = []
    if copied:
        todo.append("review the new files, then run: supabase db push")
    schemas = _exposed_schemas(project)
    if "crossfade" not in schemas:
        wanted = json.dumps([*(schemas or ["public", "graphql_public"]), "crossfade"])
        todo.append(f"expose the schema: in supabase/config.toml, [api] schemas = {wanted}")
        todo.append("and on the hosted project: settings, Data API, exposed schemas: add crossfade")
    return tuple(todo)


def _exposed_schemas(project: Path) -> list[str]:
    path = project / "supabase" / "config.toml"
    if not path.is_file():
        return []
    try:
        api = tomllib.loads(path.read_text(encoding="utf-8")).get("api", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'"{path}" is not valid TOML: {error}') from error
    return [str(item) for item in api.get("schemas", [])]


def _read_manifest(project: Path) -> Mapping[str, str]:
    path = project / MANIFEST
    if not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'"{path}" is not what crossfade wrote', hint="Restore it from version control"
        ) from error


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
