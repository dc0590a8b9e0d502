"""What each release shipped, as hashes, so that a released migration can never change unseen.

A release ships its whole schema as one migration. It writes one manifest,
``_releases/<version>.json``, and from then on that file is immutable: what is new goes into the
file of the next version. ``python -m crossfade.releases freeze`` writes the manifest of this
version; a test compares every manifest with the files.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crossfade import __version__
from crossfade.core.errors import ConfigError
from crossfade.core.versions import version_key
from crossfade.project import resources
from crossfade.project.folder import digest_of

FOLDER: Final = Path(__file__).resolve().parents[1] / "_releases"
SHARED: Final = "_shared/crossfade"
MIGRATION: Final = re.compile(r"\d{14}_(crossfade_(\d+\.\d+\.\d+)\.sql)")
"""Whole name of the migration of a release: the part behind its timestamp, its version."""


@dataclass(frozen=True, slots=True)
class Release:
    """The files of one version: name or path -> hash of the content."""

    version: str
    migrations: Mapping[str, str]
    functions: Mapping[str, str]


def newest_migration(migrations: Path) -> Path:
    """Return the migration of the newest release in a folder.

    Raises:
        ConfigError: the folder has none.
    """
    found = {
        version_key(match[2]): path
        for path in migrations.glob("*.sql")
        if (match := MIGRATION.fullmatch(path.name))
    }
    if not found:
        raise ConfigError(f'"{migrations}" has no migration of crossfade', hint="Install it again")
    return found[max(found)]


def releases(folder: Path = FOLDER) -> tuple[Release, ...]:
    """Return all releases, oldest first."""
    found = []
    for path in folder.glob("*.json"):
        item = json.loads(path.read_text(encoding="utf-8"))
        found.append(Release(item["version"], item["migrations"], item["functions"]))
    return tuple(sorted(found, key=lambda release: version_key(release.version)))


def current(migrations: Path, functions: Path, version: str = __version__) -> Release:
    """Return the release that these files would be."""
    shared = functions / SHARED
    return Release(
        version,
        {path.name: digest_of(path.read_bytes()) for path in sorted(migrations.glob("*.sql"))},
        {
            path.relative_to(functions).as_posix(): digest_of(path.read_bytes())
            for path in sorted(shared.rglob("*"))
            if path.is_file()
        },
    )


def broken_promises(now: Release, released: Sequence[Release]) -> list[str]:
    """Return the released migrations that changed, are gone, or got an older neighbour."""
    problems = []
    for release in released:
        for name, digest in release.migrations.items():
            found = now.migrations.get(name)
            if found is None:
                problems.append(f"{name} was released with {release.version} and is gone")
            elif found != digest:
                problems.append(f"{name} was released with {release.version} and has changed")
        last = max(release.migrations, default="")
        if version_key(release.version) < version_key(now.version):
            known = {name for old in released for name in old.migrations}
            problems += [
                f"{name} is new but sorts before {last} of {release.version}"
                for name in now.migrations
                if name not in known and name < last
            ]
    return problems


def freeze(folder: Path = FOLDER, *, now: Release | None = None) -> Path:
    """Write the manifest of this version.

    Raises:
        ConfigError: this version has been released with other files, or an older one changed.
    """
    release = now or current(resources.migrations_dir(), resources.functions_dir())
    problems = broken_promises(release, releases(folder))
    if problems:
        raise ConfigError(
            f"Cannot freeze {release.version}: {'; '.join(problems)}",
            hint="Restore the released files; the change belongs to the migration of a new version",
        )
    folder.mkdir(exist_ok=True)
    path = folder / f"{release.version}.json"
    text = json.dumps(
        {
            "version": release.version,
            "migrations": dict(release.migrations),
            "functions": dict(release.functions),
        },
        indent=2,
    )
    path.write_text(text + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    if sys.argv[1:] != ["freeze"]:
        sys.exit("usage: python -m crossfade.releases freeze")
    try:
        sys.stdout.write(f"{freeze()}\n")
    except ConfigError as error:
        sys.exit(error.line())
