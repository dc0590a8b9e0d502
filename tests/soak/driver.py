"""One round: a fresh database, sessions, engine, chaos; then quiet, repair and judgement."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field

import psutil
import psycopg

from crossfade.local.postgres import PostgresServer

from .client import Connection, Counts, Shared
from .conductor import Conductor
from .engine import Operator, Worker
from .journal import Effect, Transaction, expect
from .judge import Verdict, judge
from .plans import SHARED_KEYS, Habits
from .session import Session
from .settlement import failed_keys, final_verify, read_table, resolve, settle, unexplained
from .shape import SHAPES, Shape, create_sql, disagree_sql, register_sql
from .statements import insert
from .writer import OWNERS, TOKEN, Writer

TEMPLATE = "crossfade_template"
PRELOADED = 120  # rows of every key space that are there before mirroring begins

_SETTINGS = """
update crossfade.settings set value = case name
    when 'batch_max_rows' then '60' when 'batch_min_rows' then '5'
    when 'shadow_min_reads' then '0' when 'stage_bake_s' then '0' else '100000' end::jsonb
where name in ('batch_max_rows', 'batch_min_rows', 'shadow_min_reads', 'stage_bake_s')
  or name like 'throttle%';
alter table crossfade.run_ranges alter column batch_rows set default 20;
"""


@dataclass(frozen=True)
class Options:
    """What decides a round, beside chance.

    Attributes:
        kills: sessions killed per second, on average.
        crashes: crashes of the server per round, on average.
    """

    seed: int
    sessions: int = 6
    transactions: int = 500
    kills: float = 0.7
    crashes: float = 0.6
    truncate: float = 0.01
    limit_s: float = 60.0


@dataclass
class Result:
    """A finished round."""

    options: Options
    counts: Counts
    verdict: Verdict
    problems: list[str]
    transactions: list[Transaction] = field(default_factory=list)
    note: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.problems or self.verdict.lost or self.verdict.wrong)


class Round:
    """Runs one round on a server that has the migrated template database."""

    def __init__(self, server: PostgresServer, options: Options) -> None:
        self._server = server
        self._options = options
        self._rng = random.Random(options.seed)
        self._database = f"soak_{options.seed}_{time.monotonic_ns()}"
        self._shape: Shape = self._rng.choice(SHAPES)
        self._shared = Shared(
            self._shape, self._connect, policy=self._rng.choice(("record", "record", "raise"))
        )
        self._initial = Transaction("init", 0, "read committed")
        # Without verify nothing can mend by chance what the mirror forgot to record.
        self._verifies = self._rng.random() < 0.5
        self._completes = self._rng.random() < 0.5
        self._pauses = self._rng.random() < 0.3

    def run(self) -> Result:
        """Run and judge the round; the database is dropped unless something is wrong."""
        self._prepare()
        sessions, threads = self._start_sessions()
        workers = [Worker(self._shared, kind, pause) for kind, pause in self._work()]
        conductor = Conductor(
            self._shared,
            random.Random(self._rng.random()),
            complete=self._completes,
            pause=self._pauses,
        )
        for thread in (*workers, conductor):
            thread.start()
        self._wreak_havoc(sessions, threads, [w.operator for w in workers] + [conductor.operator])
        self._shared.stop.set()
        for joined in (*threads, *workers, conductor):
            joined.join(90)
            if joined.is_alive():
                self._shared.problems.append(f"{joined.name} hangs")
        result = self._judge([t for s in sessions for t in s.journal])
        if not result.failed:
            with self._admin() as admin:
                admin.execute(f"drop database {self._database} with (force)".encode())
        return result

    def _work(self) -> list[tuple[str, float]]:
        work = [("backfill", 0.004), ("backfill", 0.004), ("repair", 0.05)]
        return [*work, ("verify", 0.02)] if self._verifies else work

    def _admin(self) -> Connection:
        return psycopg.connect(self._server.dsn("supabase_admin", "postgres"), autocommit=True)

    def _connect(self) -> Connection:
        deadline = time.monotonic() + 60
        while True:
            try:
                url = self._server.dsn("postgres", self._database)
                return psycopg.connect(url, autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _prepare(self) -> None:
        with self._admin() as admin:
            admin.execute(
                f"create database {self._database} owner postgres template {TEMPLATE}".encode()
            )
        with self._connect() as db:
            for text in (create_sql(self._shape), _SETTINGS):
                db.execute(text.encode())
            db.execute(register_sql(self._shape, self._shared.policy).encode())
            spaces = range(1, self._options.sessions + 1)
            keys = [(space, n) for space in spaces for n in range(1, PRELOADED + 1)]
            for start, owner in [(0, None), *((s, self._owner(s)) for s in spaces)]:
                some = [key for key in keys if key[0] == start] or list(SHARED_KEYS)
                writer = Writer(self._shape, 1, owner, self._rng, bad_amounts=False)
                db.execute(insert(writer, some).sql.replace(TOKEN, "init").encode())
            db.execute("insert into soak.txns values ('init')")
            self._initial.effects = [
                Effect(1, key, row) for key, row in read_table(db, self._shape, 1).items()
            ]

    def _owner(self, session: int) -> str | None:
        return OWNERS[session % 3] if session % 3 == 2 else None

    def _start_sessions(self) -> tuple[list[Session], list[threading.Thread]]:
        sessions, threads = [], []
        for number in range(1, self._options.sessions + 1):
            rng = random.Random(f"{self._options.seed}/{number}")
            habits = Habits(self._owner(number), truncate=self._options.truncate)
            session = Session(number, self._shared, rng, habits)
            session.known.present = {(number, n) for n in range(1, PRELOADED + 1)}
            session.known.last_number = PRELOADED
            thread = threading.Thread(
                target=session.run, args=(self._options.transactions,), name=f"session {number}",
                daemon=True,
            )  # fmt: skip
            thread.start()
            sessions.append(session)
            threads.append(thread)
        return sessions, threads

    def _wreak_havoc(
        self, sessions: list[Session], threads: list[threading.Thread], operators: list[Operator]
    ) -> None:
        """Kill sessions and the server until all sessions have finished or time is up."""
        deadline = time.monotonic() + self._options.limit_s
        expected_s = self._options.sessions * self._options.transactions / 150
        while any(t.is_alive() for t in threads) and time.monotonic() < deadline:
            time.sleep(0.05)
            if self._rng.random() < self._options.kills * 0.05:
                pids = [s.client.pid for s in sessions] + [operator.pid for operator in operators]
                with contextlib.suppress(psycopg.Error), self._admin() as admin:
                    done = admin.execute(
                        "select pg_terminate_backend(%s)", [self._rng.choice(pids)]
                    ).fetchone()
                    self._shared.counts["kills"] += bool(done and done[0])
            if self._rng.random() < self._options.crashes * 0.05 / expected_s:
                crash(self._server)
                self._server.start()
                self._shared.counts["restarts"] += 1

    def _judge(self, transactions: list[Transaction]) -> Result:
        problems, shape = self._shared.problems, self._shape
        settle(self._shared)
        with self._connect() as db:
            transactions = [self._initial, *transactions]
            resolve(db, self._shared, transactions)
            failed = failed_keys(db, shape)
            self._shared.counts["mirror failures"] += len(failed)
            for keys, sql in self._shared.excuses:
                if not failed & set(keys):
                    problems.append(f"unexpected 23505: {keys}: {sql}")
            for row in db.execute(disagree_sql(shape).encode()).fetchall():
                problems.append(f"the tables disagree: {row}")
            if not self._shared.archived:  # else V1 fell behind on purpose
                problems += unexplained(db, shape, failed)
            verdict = judge(
                expect(transactions), read_table(db, shape, 1), read_table(db, shape, 2), failed
            )
        final_verify(self._shared)
        note = (
            f"shape {shape.name}, policy {self._shared.policy}, verify {self._verifies}, "
            f"complete {self._shared.archived}, pauses {self._pauses}"
        )
        return Result(self._options, self._shared.counts, verdict, problems, transactions, note)


def crash(server: PostgresServer) -> None:
    """SIGKILL the server with all its processes, as a power cut would end them."""
    processes: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(server.pid)
        processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)
