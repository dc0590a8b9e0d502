"""What every step of the demo works with."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from crossfade.demo.client import Account
from crossfade.demo.console import DemoConsole, Showing
from crossfade.demo.history import HistoryChat, RawConversation
from crossfade.demo.report import StoryFigures
from crossfade.demo.session import Desk
from crossfade.demo.timeline import Moment
from crossfade.demo.traffic import ClientTraffic, Endpoint, TrafficPlan
from crossfade.demo.watchman import Watchman
from crossfade.gateway import SupabaseGateway
from crossfade.local import LocalStack
from crossfade.pairs.model import PairStatus

PAIR = "chat_messages"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things are watched, and how long they may take.

    Attributes:
        settle_s: Traffic on every stage and percentage before the next one.
        fault_delay_ms: How late version 2 answers while it is faulty.
        rollback_timeout_s: The automatic rollback must have happened by then.
        kill_cycles: Engage and release so often, within about `kill_limit_s`.
        shadow_reads: Compared reads to wait for, `shadow_timeout_s` at most.
        monitor_interval_s: Between two evaluations.
    """

    settle_s: float = 8.0
    fault_delay_ms: int = 300
    rollback_timeout_s: float = 60.0
    kill_cycles: int = 100
    kill_limit_s: float = 60.0
    shadow_reads: int = 40
    shadow_timeout_s: float = 45.0
    monitor_interval_s: float = 1.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to do.

    Attributes:
        rows: Messages of the history, None for all.
        keep: Leave the stack running for a look.
        data_dir: Folder of the stack, None for one below `out_dir` that is removed at the end.
        out_dir: Where report, picture, journal and log go.
        only: Names of the steps to take, in the story's own order; None for all.
        sabotage_sql: Run as the database owner after everything is installed. For the tests that
            show that the demo notices a broken engine.
    """

    rows: int | None = None
    keep: bool = False
    data_dir: Path | None = None
    out_dir: Path = Path("build/demo")
    only: frozenset[str] | None = None
    sabotage_sql: str | None = None
    pace: Pace = field(default_factory=Pace)
    plan: TrafficPlan = field(default_factory=TrafficPlan)


@dataclass(slots=True)
class World:
    """The running demo. Built once; the steps fill `measured` and `events`."""

    options: DemoOptions
    console: DemoConsole
    stack: LocalStack
    gateway: SupabaseGateway
    desk: Desk
    conn: psycopg.Connection
    endpoint: Endpoint
    conversations: Mapping[str, RawConversation]
    watchman: Watchman
    measured: StoryFigures = field(default_factory=StoryFigures)
    events: list[Moment] = field(default_factory=list)
    accounts: Sequence[Account] = ()
    staff: Sequence[Account] = ()
    owners: Mapping[str, uuid.UUID] = field(default_factory=dict)
    returning: Sequence[HistoryChat] = ()
    traffic: ClientTraffic | None = None

    @property
    def pace(self) -> Pace:
        """Return how long things are watched."""
        return self.options.pace

    def connect(self) -> psycopg.Connection:
        """Open a connection as the project's own role postgres."""
        return psycopg.connect(self.stack.info.db_url, application_name="crossfade-demo")

    def mark(self, text: str) -> None:
        """Put an event on the picture."""
        self.events.append(Moment(round(self.desk.meter.now_s(), 2), text))

    def check(self) -> None:
        """Raise when a client, a prober or the monitor broke: nothing may fail in silence."""
        if self.traffic is not None:
            self.traffic.check()
        self.watchman.check()

    def status(self) -> PairStatus:
        """Return where the pair stands."""
        return self.gateway.pair_status(PAIR)[0]

    def dwell(self, showing: Showing, seconds: float, what: str) -> None:
        """Let the clients work for a while and show it."""
        started, before = time.monotonic(), self.desk.meter.total()
        while (spent := time.monotonic() - started) < seconds:
            self.check()
            requests = self.desk.meter.total() - before
            showing.bar(f"{what}: {requests} requests", min(spent, seconds), seconds)
            time.sleep(0.1)

    def seen(self, since: Mapping[int, int]) -> str:
        """Say how many requests each backend has served since `served()`."""
        now = self.served()
        v1, v2 = (now[backend] - since[backend] for backend in (1, 2))
        return f"backend 1 served {v1} requests, backend 2 {v2}"

    def served(self) -> dict[int, int]:
        """Return the requests each backend has served so far."""
        counted = dict.fromkeys((1, 2), 0)
        for (_, backend), number in list(self.desk.meter.requests.items()):
            if backend in counted:
                counted[backend] += number
        return counted
