"""Copy the migration and the shared edge code into somebody's Supabase project.

A release brings its whole schema as one migration. It gets a fresh timestamp later than the
project's own, because ``supabase db push`` refuses older ones; those of older releases stay.
``supabase/crossfade.json`` records what was copied, by content, so that a second run copies only
what is new. What its owner edited or removed is left alone and reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path

from crossfade import __version__
from crossfade.core.errors import ConfigError
from crossfade.core.versions import version_key
from crossfade.project.folder import (
    SCHEMA,
    Installed,
    ProjectFolder,
    Record,
    digest_of,
    open_project,
)
from crossfade.project.releases import MIGRATION, SHARED, newest_migration, releases
from crossfade.project.uninstall import UNINSTALLATION


@dataclass(frozen=True, slots=True)
class Copy:
    """One file to write. ``key`` is its name in the record."""

    key: str
    source: Path
    target: str
    digest: str


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """What an installation does.

    Attributes:
        copies: files to write.
        known: files that are there already, for the record.
        edited: files of ours that their owner changed; they stay.
        removed: files of ours that their owner removed; they stay away.
        before: version that installed last; None on the first run.
        schemas: what config.toml must expose, when it does not.
    """

    project: ProjectFolder
    copies: tuple[Copy, ...]
    known: Mapping[str, Installed]
    edited: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    before: str | None = None
    schemas: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """True when nothing is left to do; edited edge code is its owner's right."""
        edited = any(name.endswith(".sql") for name in self.edited)
        return not (self.copies or self.removed or self.schemas or edited)

    def todo(self, *, config_edited: bool = False) -> tuple[str, ...]:
        """Return what is left to a person."""
        lines = []
        if self.copies:
            lines.append("review the new files, then run: supabase db push")
        if self.schemas and not config_edited:
            names = ", ".join(f'"{name}"' for name in self.schemas)
            lines.append(f"in supabase/config.toml, under [api]: schemas = [{names}]")
        if self.schemas:
            lines.append(
                "on the hosted project: settings, Data API, exposed schemas: add crossfade"
            )
        return tuple(lines)


def plan_install(
    project: Path,
    *,
    migrations: Path,
    functions: Path,
    now: datetime | None = None,
    restore: bool = False,
    version: str = __version__,
) -> InstallPlan:
    """Compare ``project`` with what we bring. Writes nothing.

    Args:
        project: folder that holds ``supabase/``.
        migrations: our migrations, one a release; the newest one is copied.
        functions: our edge functions; only the shared part is copied.
        now: for the timestamps.
        restore: bring back what its owner removed or edited.
        version: ours.

    Raises:
        ConfigError: ``project`` is no Supabase project, or a newer crossfade installed into it.
    """
    folder = open_project(project)
    record = folder.record()
    if record.version and version_key(record.version) > version_key(version):
        raise ConfigError(
            f'crossfade {record.version} installed into "{project}", and this is {version}',
            hint=f"Run: pip install 'crossfade>={record.version}'",
        )
    work = _Work(folder, record, restore)
    work.compare_migration(newest_migration(migrations), now or datetime.now(UTC))
    work.compare_functions(functions)
    exposed = folder.exposed_schemas()
    return InstallPlan(
        folder,
        tuple(work.copies),
        work.known,
        tuple(work.edited),
        tuple(work.removed),
        record.version,
        () if SCHEMA in exposed else tuple(folder.wanted_schemas()),
    )


def apply_install(
    plan: InstallPlan, *, edit_config: bool = False, version: str = __version__
) -> None:
    """Write the files, then the record; an interrupted run finds its files by their content."""
    known = dict(plan.known)
    for copy in plan.copies:
        plan.project.write(copy.target, copy.source.read_bytes())
        known[copy.key] = Installed(copy.target, copy.digest)
    record = Record(version, known)
    if record != plan.project.record():
        plan.project.write_record(record)
    if edit_config and plan.schemas:
        plan.project.write("supabase/config.toml", plan.project.edited_config(plan.schemas))


def differences(plan: InstallPlan, *, migrations: Path, functions: Path) -> str:
    """Return how the edited files differ from ours, as a unified diff."""
    sources = {_key_of(path): path for path in migrations.glob("*.sql")}
    sources |= {
        f"functions/{path.relative_to(functions).as_posix()}": path
        for path in (functions / SHARED).rglob("*")
    }
    lines: list[str] = []
    for key, item in plan.known.items():
        if item.target in plan.edited and key in sources:
            theirs = (plan.project.text(item.target) or b"").decode(errors="replace")
            ours = sources[key].read_text(encoding="utf-8")
            lines += unified_diff(
                ours.splitlines(), theirs.splitlines(), "crossfade", item.target, lineterm=""
            )
    return "\n".join(lines)


def _key_of(migration: Path) -> str:
    return f"migrations/{migration.name[15:]}"


class _Work:
    """One comparison, file by file."""

    def __init__(self, project: ProjectFolder, record: Record, restore: bool) -> None:
        self.project = project
        self.record = record
        self.restore = restore
        self.copies: list[Copy] = []
        self.known: dict[str, Installed] = {}
        self.edited: list[str] = []
        self.removed: list[str] = []
        self._released = {digest for release in releases() for digest in release.functions.values()}

    def compare_migration(self, source: Path, now: datetime) -> None:
        key, digest = _key_of(source), digest_of(source.read_bytes())
        present = self._present()
        for older, item in self.record.files.items():
            if older.startswith("migrations/") and older != key:
                kept = self.project.text(item.target) is not None
                target = item.target if kept else present.get(item.digest)
                if target:
                    self.known[older] = Installed(target, item.digest)
        if not self._is_there(key, digest, present):
            name = key.removeprefix("migrations/")
            target = f"supabase/migrations/{self.project.next_stamp(now)}_{name}"
            self.copies.append(Copy(key, source, target, digest))

    def _is_there(self, key: str, digest: str, present: Mapping[str, str]) -> bool:
        recorded = self.record.files.get(key)
        if recorded is None:
            # No record, as after an interrupted run: known by content, or by its whole name.
            target = present.get(digest) or present.get(key)
            if target is None:
                return False
            self.known[key] = Installed(target, digest)
            if digest in present:
                return True
            self.edited.append(target)
            return not self.restore
        self.known[key] = recorded
        content = self.project.text(recorded.target)
        if content is None:
            target = present.get(digest)
            if target:  # renamed by its owner
                self.known[key] = Installed(target, digest)
                return True
            if not self.restore:
                self.removed.append(recorded.target)
            return not self.restore
        if digest_of(content) != recorded.digest:
            self.edited.append(recorded.target)
            return not self.restore
        # Ours changed after it was copied: only before its release can that be.
        return recorded.digest == digest

    def _present(self) -> dict[str, str]:
        """The project's migrations by content, and ours also by name.

        Those before an uninstallation do not count.
        """
        names = self.project.migration_names()
        gone = [i for i, name in enumerate(names) if UNINSTALLATION.fullmatch(name)]
        found = {}
        for name in names[gone[-1] + 1 if gone else 0 :]:
            target = f"supabase/migrations/{name}"
            found[digest_of(self.project.text(target) or b"")] = target
            if match := MIGRATION.fullmatch(name):
                found[f"migrations/{match[1]}"] = target
        return found

    def compare_functions(self, functions: Path) -> None:
        for source in sorted((functions / SHARED).rglob("*")):
            if source.is_file():
                key = f"functions/{source.relative_to(functions).as_posix()}"
                self._compare_function(source, key)

    def _compare_function(self, source: Path, key: str) -> None:
        target, digest = f"supabase/{key}", digest_of(source.read_bytes())
        recorded = self.record.files.get(key)
        content = self.project.text(target)
        current = digest_of(content) if content is not None else None
        if current == digest:
            self.known[key] = Installed(target, digest)
            return
        if recorded:
            self.known[key] = recorded
        if current is None and recorded and not self.restore:
            self.removed.append(target)
            return
        ours = current is None or current in self._released
        if not ours and not self.restore and (not recorded or current != recorded.digest):
            self.known.setdefault(key, Installed(target, digest))
            self.edited.append(target)
            return
        self.copies.append(Copy(key, source, target, digest))
