"""What a stack keeps in its data directory, and what it tells about itself."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from crossfade.local.errors import LocalStackError

_LARGEST_LOG = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInfo:
    """How to reach a running stack.

    Attributes:
        api_url: base of /rest/v1, /auth/v1, /functions/v1 and /realtime/v1.
        db_url: database URL of role postgres, which is no superuser.
        publishable_key: key of an anonymous caller.
        secret_key: key of the service role.
        functions_url: base of the edge functions.
        data_dir: folder of the stack.
    """

    api_url: str
    db_url: str
    publishable_key: str
    secret_key: str
    functions_url: str
    data_dir: str

    def as_dict(self) -> dict[str, str]:
        """Return the JSON object that ``crossfade up --json`` prints."""
        return asdict(self)

    @property
    def admin_db_url(self) -> str:
        """Database URL of the superuser, which a hosted project does not give away."""
        return self.db_url.replace("//postgres@", "//supabase_admin@")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What a stack consists of.

    Attributes:
        data_dir: absolute path of its folder.
        functions: edge functions to serve.
        isolates: processes for each of them.
        migrations: apply the migrations at start.
        pairs: pair files to apply after them.
        env: more environment of the functions.
        postgres_version: 18, 16, or None for the default.
        postgres_bin: folder of other PostgreSQL binaries.
        durable: False makes a throw-away database, faster.
        functions_dir: folder of the functions instead of the project's own.
        migrations_dir: folder of the migrations instead of the project's own.
        attached: end when the starting process ends.
    """

    data_dir: str
    functions: Sequence[str] = ()
    isolates: int = 2
    migrations: bool = True
    pairs: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    postgres_version: int | None = None
    postgres_bin: str | None = None
    durable: bool = True
    functions_dir: str | None = None
    migrations_dir: str | None = None
    attached: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """A supervisor's entry in the data directory while it runs."""

    pid: int
    control_port: int
    control_token: str
    info: StackInfo | None = None


class StackFolder:
    """The data directory of one stack."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().resolve()
        self.logs = self.path / "logs"
        self.cluster = self.path / "postgres"
        self._state = self.path / "state.json"
        self._kept = self.path / "project.json"

    def create(self) -> None:
        """Make the folders."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > _LARGEST_LOG and not self.is_locked():
                log.unlink()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one supervisor.

        Raises:
            LocalStackError: another one holds it.
        """
        with (self.path / "lock").open("w") as file:
            if not _try_lock(file, attempts=20):
                raise LocalStackError(f"A stack already runs in {self.path}")
            yield

    def is_locked(self) -> bool:
        """Return whether a supervisor holds the folder, whatever state files say."""
        try:
            with (self.path / "lock").open() as file:
                return not _try_lock(file, attempts=1)
        except FileNotFoundError:
            return False

    def read_state(self) -> StackState | None:
        """Return the entry of the supervisor that runs now; None when there is none."""
        if not self.is_locked():
            return None
        try:
            data: dict[str, Any] = json.loads(self._state.read_text())
            info = data.pop("info")
            return StackState(**data, info=StackInfo(**info) if info else None)
        except (OSError, ValueError, TypeError):
            return None  # not written yet

    def write_state(self, state: StackState) -> None:
        """Write the entry in one step, readable by its owner only: it holds the keys."""
        _write_private(self._state, asdict(state))

    def clear_state(self) -> bool:
        """Remove the entry; return whether one was there."""
        existed = self._state.exists()
        self._state.unlink(missing_ok=True)
        return existed

    def project(self) -> dict[str, Any]:
        """Return keys and ports, which stay the same from start to start; made when missing."""
        try:
            kept: dict[str, Any] = json.loads(self._kept.read_text())
        except (OSError, ValueError):
            kept = {
                "publishable_key": f"sb_publishable_{_random()}",
                "secret_key": f"sb_secret_{_random()}",
                "jwt_secret": secrets.token_hex(32),
                "ports": {},
            }
            _write_private(self._kept, kept)
        return kept

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        """Remember the ports for the next start."""
        _write_private(self._kept, {**self.project(), "ports": dict(ports)})


def _try_lock(file: IO[str], *, attempts: int) -> bool:
    # More than one attempt, because somebody's look at the lock takes it for a moment.
    for attempt in range(attempts):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < attempts:
                time.sleep(0.05)
            continue
        return True
    return False


def _random() -> str:
    # The shape of hosted keys: 22 characters, underscore, 8 characters.
    return f"{secrets.token_hex(11)}_{secrets.token_hex(4)}"


def _write_private(path: Path, data: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(data, file, indent=1)
    temporary.replace(path)
