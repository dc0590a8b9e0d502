"""A project with traffic that can be looked at, for tests of the dashboard and its screenshots."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from tests.integration.cli_project import Project

MINUTES = """
insert into crossfade.request_minutes as t (
  pair, minute, step, backend_version, wire_version, flag_set, outcome, latency_bucket, requests,
  last_at)
select '{pair}', date_trunc('minute', now()) - make_interval(mins => m),
  (select step from crossfade.pairs where name = '{pair}'), b, 1 + (b * 7 + m) % 2, '', o,
  case o when 'ok' then l + b - 1 + (m % 3 = 0)::int else 40 end,
  case o when 'ok' then {ok} * (9 + (m * 5 + l * 3) % 7) * (case b when 1 then 2 else 1 end) / 6
    else 1 + m % 2 end, now() - make_interval(mins => m)
from generate_series({first}, {last}) m, generate_series(1, 2) b,
  unnest(array['ok', 'error', 'client_error']) o, generate_series(20, 27) l
where (o = 'ok' or l = 20) and (o <> 'error' or b = 2 or m % 5 = 0)
on conflict do nothing
"""


def record(project: Project, pair: str, *events: dict[str, Any]) -> None:
    """Count requests as the edge function does."""
    whole = [
        {
            "pair": pair,
            "backend_version": 2,
            "wire_version": 1,
            "outcome": "ok",
            "latency_ms": 40,
            **event,
        }
        for event in events
    ]
    project.sql("select crossfade.record_requests('" + json.dumps(whole) + "')")


def fill(project: Project, pair: str, *, first: int = 0, last: int = 59, ok: int = 4) -> None:
    """Let there have been requests for some minutes."""
    project.sql(MINUTES.format(pair=pair, first=first, last=last, ok=ok))


def judge(project: Project, pair: str, **verdicts: tuple[str, float, int, float, str]) -> None:
    """Store verdicts as a monitor would, and let it live."""
    rows = [
        {
            "rule": rule,
            "verdict": verdict,
            "value": value,
            "n": n,
            "threshold": threshold,
            "details": {"message": message},
        }
        for rule, (verdict, value, n, threshold, message) in verdicts.items()
    ]
    project.sql("select crossfade.monitor_beat('monitor@host')")
    text = json.dumps(rows).replace("'", "''")
    project.sql(f"select crossfade.record_verdicts('{pair}', '{text}')")


HEALTHY = {
    "R1": ("PASS", 0.004, 900, 0.10, "0.4 % of 900 requests failed"),
    "R2": ("PASS", 0.004, 900, 0.05, "0.4 % of 900 requests failed"),
    "R3": ("PASS", 0.996, 900, 0.95, "99.6 % of 900 requests succeeded"),
    "R4": ("PASS", 103, 900, 10000, "p95 is 103 ms"),
    "R5": ("PASS", 1.1, 900, 2, "p95 is 1.1 times that of V1"),
    "R8": ("PASS", 0, 0, 0, "nothing differs"),
}


@dataclass(frozen=True)
class Served:
    """A running dashboard and the link that signs in."""

    link: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Where it is."""
        return self.link.split("/sign-in", maxsplit=1)[0]

    def stop(self) -> None:
        """End it, as a crash would."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def serving(env: dict[str, str], *options: str) -> Iterator[Served]:
    """Run ``crossfade dashboard`` as an operator does."""
    command = [sys.executable, "-m", "crossfade", "dashboard", "--port", "0", *options]
    process = subprocess.Popen(
        command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        assert link.startswith("http://127.0.0.1:"), link
        yield Served(link, process)
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


class Line:
    """A cable to a server of this machine that can be pulled out."""

    def __init__(self, port: int) -> None:
        self._to, self._open = port, list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    Thread(target=_pump, args=(source, target), daemon=True).start()

    def pull(self) -> None:
        """Nothing goes through any more."""
        for end in (self._listening, *self._open):
            # Closing alone would leave the threads waiting in it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
