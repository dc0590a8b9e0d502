"""Somebody's Supabase project on disk: its migrations, our record in it, its config.toml."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from crossfade.core.errors import ConfigError

RECORD: Final = "supabase/crossfade.json"
SCHEMA: Final = "crossfade"
DEFAULT_SCHEMAS: Final = ("public", "graphql_public")
_STAMPED: Final = re.compile(r"(\d{14})_(.+)\.sql")


@dataclass(frozen=True, slots=True)
class Installed:
    """One file that crossfade put into a project. ``target`` is relative to the project."""

    target: str
    digest: str


@dataclass(frozen=True, slots=True)
class Record:
    """What was installed: by which version, and under which key which file."""

    version: str | None = None
    files: Mapping[str, Installed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """The folder that holds ``supabase/``."""

    path: Path

    @property
    def migrations(self) -> Path:
        """Folder of the migrations; it may not exist."""
        return self.path / "supabase" / "migrations"

    def migration_names(self) -> list[str]:
        """Return the names of the migrations in the order they are applied."""
        if not self.migrations.is_dir():
            return []
        return sorted(path.name for path in self.migrations.glob("*.sql"))

    def next_stamp(self, now: datetime, files: int = 1) -> str:
        """Return a timestamp later than every migration: ``supabase db push`` refuses others.

        The last one of ``files`` files, one second apart, is not in the future where that can be:
        the next ``supabase migration new`` must not get an older one.
        """
        stamps = [
            match[1] for name in self.migration_names() if (match := _STAMPED.fullmatch(name))
        ]
        first = now - timedelta(seconds=files - 1)
        return max([first.strftime("%Y%m%d%H%M%S"), *(later(item) for item in stamps)])

    def text(self, target: str) -> bytes | None:
        """Return the content of a file of the project, or None when it is not there."""
        path = self.path / target
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise _unreadable(path, error) from error

    def write(self, target: str, content: bytes) -> None:
        """Write a file of the project whole or not at all.

        Raises:
            ConfigError: the system does not let us.
        """
        path = self.path / target
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".crossfade-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                Path(draft).chmod(0o644)
                Path(draft).replace(path)
            except OSError:
                Path(draft).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigError(
                f'Cannot write "{path}": {error.strerror}',
                hint="Give yourself the right to write there, then run it again",
            ) from error

    def remove(self, target: str) -> None:
        """Remove a file, and the folders that are empty afterwards, up to ``supabase``."""
        path = self.path / target
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder in (self.path, self.path / "supabase") or any(folder.iterdir()):
                return
            folder.rmdir()

    def record(self) -> Record:
        """Return what was installed here; empty when nothing was.

        Raises:
            ConfigError: the record is not what we wrote.
        """
        content = self.text(RECORD)
        if content is None:
            return Record()
        try:
            found = json.loads(content)
            files = {
                str(key): Installed(str(item["target"]), str(item["sha256"]))
                for key, item in found["files"].items()
            }
            return Record(str(found["version"]), files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f'"{self.path / RECORD}" is not what crossfade wrote',
                hint="Restore it from version control; without it, remove it and run: "
                "crossfade install, which finds its files again by their content",
            ) from error

    def write_record(self, record: Record) -> None:
        """Replace the record."""
        files = {
            key: {"target": item.target, "sha256": item.digest}
            for key, item in sorted(record.files.items())
        }
        text = json.dumps({"version": record.version, "files": files}, indent=2)
        self.write(RECORD, (text + "\n").encode())

    # config.toml ---------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """The project's config.toml; it may not exist."""
        return self.path / "supabase" / "config.toml"

    def exposed_schemas(self) -> list[str]:
        """Return the schemas that config.toml exposes; none when it does not say.

        Raises:
            ConfigError: the file is not TOML, or says something else there.
        """
        schemas = _api(self._config()).get("schemas", [])
        if not isinstance(schemas, list) or not all(isinstance(item, str) for item in schemas):
            raise ConfigError(
                f'[api] schemas in "{self.config}" is not a list of names',
                hint='Write it like this: schemas = ["public", "crossfade"]',
            )
        return [str(item) for item in schemas]

    def wanted_schemas(self) -> list[str]:
        """Return the exposed schemas with ours among them."""
        exposed = self.exposed_schemas()
        if SCHEMA in exposed:
            return exposed
        return [*(exposed or DEFAULT_SCHEMAS), SCHEMA]

    def edited_config(self, schemas: Iterable[str]) -> bytes:
        """Return config.toml with other exposed schemas; comments and everything else stay."""
        document = self._config()
        if "api" not in document:
            document.add("api", tomlkit.table())
        api = _api(document)
        wanted = list(schemas)
        old = api.get("schemas")
        if isinstance(old, tomlkit.items.Array):
            # One by one, so that comments inside the list stay as well.
            for name in [str(item) for item in old if str(item) not in wanted]:
                old.remove(name)
            for name in wanted:
                if name not in [str(item) for item in old]:
                    old.append(name)
        else:
            api["schemas"] = wanted
        return tomlkit.dumps(document).encode()

    def _config(self) -> tomlkit.TOMLDocument:
        content = self.text("supabase/config.toml") or b""
        try:
            return tomlkit.parse(content.decode())
        except (TOMLKitError, UnicodeDecodeError) as error:
            raise ConfigError(
                f'"{self.config}" is not valid TOML: {error}', hint="Mend it, then run it again"
            ) from error


def open_project(path: Path) -> ProjectFolder:
    """Return the project in a folder.

    Raises:
        ConfigError: there is none.
    """
    if not path.is_dir():
        raise ConfigError(
            f'There is no folder "{path}"', hint="Give the folder that holds supabase/ with --into"
        )
    if path.name == "supabase" and (path / "config.toml").is_file():
        raise ConfigError(
            f'"{path}" is the folder supabase itself',
            hint=f"Give the one above: --into {path.parent}",
        )
    if not (path / "supabase").is_dir():
        raise ConfigError(f'"{path}" has no folder supabase', hint="Run there first: supabase init")
    return ProjectFolder(path)


def later(stamp: str) -> str:
    """Return the timestamp of one second later."""
    try:
        moment = datetime.strptime(stamp, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return f"{int(stamp) + 1:014d}"  # fourteen digits that are no time, as some projects have
    return (moment + timedelta(seconds=1)).strftime("%Y%m%d%H%M%S")


def digest_of(content: bytes) -> str:
    """Return the hash by which we recognise a file."""
    return hashlib.sha256(content).hexdigest()


def _api(document: tomlkit.TOMLDocument) -> tomlkit.items.Table | dict[str, object]:
    api = document.get("api", {})
    if not isinstance(api, dict):
        raise ConfigError(
            '"api" in config.toml is not a table', hint="Write [api] on a line of its own"
        )
    return api


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f'Cannot read "{path}": {error.strerror}', hint="Give yourself the right to read it"
    )
