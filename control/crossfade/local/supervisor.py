"""The parts of one stack: start them, restart what dies, stop them all."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crossfade.local.deno_runtime import install_gateway
from crossfade.local.errors import LocalStackError, StackStartError
from crossfade.local.functions import FunctionRunner
from crossfade.local.gateway_process import GatewayProcess
from crossfade.local.isolates import IsolatePool
from crossfade.local.migrations import apply_migrations, apply_pairs
from crossfade.local.ports import HOST, free_port, is_free
from crossfade.local.postgres import PostgresServer
from crossfade.local.processes import Child
from crossfade.local.state import StackFolder, StackInfo, StackOptions
from crossfade.project import resources

SCHEMAS = ("public", "crossfade")
_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 5.0
_ATTEMPTS = 3


@dataclass(slots=True)
class Backoff:
    """When a part that keeps dying may be started again."""

    wait_s: float = 0.0
    not_before: float = 0.0

    def failed(self, now: float) -> None:
        """Note a death; quick deaths wait longer each time."""
        quick = now - self.not_before < 10
        longer = min(self.wait_s * 2 or _FIRST_BACKOFF_S, _LONGEST_BACKOFF_S)
        self.wait_s = longer if quick else 0.0
        self.not_before = now + self.wait_s


class Supervisor:
    """All parts of one stack."""

    def __init__(self, options: StackOptions, progress: Callable[[str], None]) -> None:
        self._options = options
        self._progress = progress
        self._folder = StackFolder(options.data_dir)
        self._held_down: set[str] = set()
        self._backoff: dict[str, Backoff] = {}
        self._gateway: GatewayProcess | None = None
        self._sources = Path()
        self._gateway_port = 0
        self._isolates = IsolatePool(options.functions, options.isolates, self._tell_gateway)
        self._postgres = PostgresServer(
            self._folder.cluster,
            options.postgres_version,
            bin_dir=Path(options.postgres_bin) if options.postgres_bin else None,
            durable=options.durable,
            log=self._folder.logs / "postgres.log",
        )

    @property
    def info(self) -> StackInfo:
        """How to reach the stack."""
        project = self._folder.project()
        api_url = f"http://{HOST}:{self._gateway_port}"
        return StackInfo(
            api_url=api_url,
            db_url=self._postgres.dsn(),
            publishable_key=project["publishable_key"],
            secret_key=project["secret_key"],
            functions_url=f"{api_url}/functions/v1",
            data_dir=str(self._folder.path),
        )

    def start(self, *, after_crash: bool) -> StackInfo:
        """Start everything; the stack is ready when this returns.

        Args:
            after_crash: a former run left its state, so its parts may still be ending.

        Raises:
            LocalStackError: a part did not come up; the others are left to ``stop``.
        """
        ports = self._folder.project()["ports"]
        if after_crash:
            _wait_until_free(list(ports.values()))
        self._sources = install_gateway(self._progress)
        self._progress("starting PostgreSQL")
        self._postgres.port = ports.get("postgres", 0)
        self._postgres.start()
        self._postgres.bootstrap()
        self._progress("starting the gateway and the functions")
        self._start_gateway_and_functions(ports.get("gateway"))
        self._folder.keep_ports({"postgres": self._postgres.port, "gateway": self._gateway_port})
        if self._apply_sql() and self._gateway is not None:
            self._gateway.reload()
        self._isolates.wait_all()
        return self.info

    def _start_gateway_and_functions(self, preferred: int | None) -> None:
        for attempt in range(_ATTEMPTS):
            self._gateway_port = free_port(preferred if attempt == 0 else None)
            self._isolates.runner = self._runner()
            # Side by side: both need a good part of a second.
            self._launch_gateway()
            self._isolates.launch_missing()
            try:
                self._wait_gateway()
            except StackStartError:
                if is_free(self._gateway_port) or attempt + 1 == _ATTEMPTS:
                    raise
                # Somebody took the port in between; the functions know the wrong URL, too.
                self._isolates.stop()
            else:
                return

    def _runner(self) -> FunctionRunner:
        given = self._options.functions_dir
        return FunctionRunner(
            folder=Path(given) if given else resources.functions_dir(),
            gateway_sources=self._sources,
            logs=self._folder.logs,
            info=self.info,
            env=self._options.env,
        )

    def _launch_gateway(self) -> None:
        project = self._folder.project()
        config = {
            "port": self._gateway_port,
            "databasePort": self._postgres.port,
            "databasePid": self._postgres.pid,
            "publishableKey": project["publishable_key"],
            "secretKey": project["secret_key"],
            "jwtSecret": project["jwt_secret"],
            "schemas": SCHEMAS,
        }
        self._gateway = GatewayProcess(self._sources, self._folder.logs / "gateway.log", config)

    def _wait_gateway(self) -> None:
        if self._gateway is not None:
            self._gateway.wait_ready()

    def _tell_gateway(self, urls: dict[str, list[str]]) -> None:
        if self._gateway is not None:
            self._gateway.set_functions(urls)

    def _restart_gateway(self) -> None:
        self._launch_gateway()
        self._wait_gateway()
        self._isolates.announce_again()

    def _apply_sql(self) -> bool:
        """Apply migrations and pairs; return whether the schema may have changed."""
        changed = 0
        dsn = self._postgres.dsn()
        if self._options.migrations:
            given = self._options.migrations_dir
            folder = Path(given) if given else resources.migrations_dir()
            changed += apply_migrations(dsn, folder, self._progress)
        if self._options.pairs:
            changed += apply_pairs(dsn, resources.pairs_dir(), self._options.pairs, self._progress)
        return changed > 0

    def stop(self) -> None:
        """Stop everything; safe to call at any time."""
        self._isolates.begin_stop()
        if self._gateway is not None:
            self._gateway.stop()
        self._isolates.stop()
        self._postgres.stop()

    def check(self) -> None:
        """Restart what died by itself; parts that ``kill`` took down stay down."""
        if not self._postgres.is_running():
            self._recover("postgres", self._restart_postgres)
        if not self._gateway_runs():
            self._recover("gateway", self._restart_gateway)
        for isolate in self._isolates.all:
            if not isolate.is_alive():
                self._recover(isolate.label, partial(self._isolates.launch, isolate))
        self._isolates.announce()

    def _recover(self, label: str, start: Callable[[], None]) -> None:
        now = time.monotonic()
        backoff = self._backoff.setdefault(label, Backoff())
        if label in self._held_down or now < backoff.not_before:
            return
        self._progress(f"{label} ended; starting it again")
        backoff.failed(now)
        try:
            start()
        except (LocalStackError, OSError, subprocess.SubprocessError) as error:
            self._progress(str(error))  # the next check tries again

    def _restart_postgres(self) -> None:
        self._postgres.start()
        if self._gateway is not None:
            self._gateway.set_database_pid(self._postgres.pid)

    def kill(self, name: str) -> None:
        """Kill a part at once and keep it down: "postgres", "gateway" or "isolate:0".

        Raises:
            LocalStackError: there is no such part.
        """
        label, child = self._find(name)
        self._held_down.add(label)
        if child is not None and child.is_alive():
            # PostgreSQL's children notice the death of their parent by themselves.
            child.process.send_signal(signal.SIGKILL)
            child.process.wait()
        self._isolates.announce()

    def _find(self, name: str) -> tuple[str, Child | None]:
        kind, _, number = name.partition(":")
        if name == "postgres":
            return name, self._postgres.child
        if name == "gateway":
            return name, self._gateway.child if self._gateway else None
        if kind == "isolate" and number.isdecimal() and int(number) < len(self._isolates.all):
            isolate = self._isolates.all[int(number)]
            return isolate.label, isolate.child
        raise LocalStackError(f'There is no part "{name}"; parts: {", ".join(self.parts())}')

    def start_missing(self) -> None:
        """Start every part that is down, and wait for it."""
        self._held_down.clear()
        self._backoff.clear()
        if not self._postgres.is_running():
            self._restart_postgres()
        if not self._gateway_runs():
            self._restart_gateway()
        self._isolates.launch_missing()
        self._isolates.wait_all()

    def spawn_isolate(self, function: str, env: Mapping[str, str]) -> str:
        """Start one more process of a function, outside the gateway's rotation; return its URL."""
        return self._isolates.add(function, env).url

    def restart_api(self) -> None:
        """Let the Data API read its schema cache again."""
        if not self._gateway_runs() or self._gateway is None:
            raise LocalStackError("The gateway does not run")
        self._gateway.reload()

    def _gateway_runs(self) -> bool:
        return self._gateway is not None and self._gateway.child.is_alive()

    def parts(self) -> dict[str, bool]:
        """Return which parts run."""
        return {
            "postgres": self._postgres.is_running(),
            "gateway": self._gateway_runs(),
            **{isolate.label: isolate.is_alive() for isolate in self._isolates.all},
        }


def _wait_until_free(ports: Iterable[int]) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not all(is_free(port) for port in ports):
        time.sleep(0.05)
