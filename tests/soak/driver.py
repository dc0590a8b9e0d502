"""One round: a fresh database, sessions, engine, chaos; then quiet, repair and judgement."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from crossfade.local.postgres import PostgresServer

from .engine import Conductor, Operator, Worker, active_run, batch, verify_pass, way_back
from .journal import Effect, Transaction, expect
from .judge import Verdict, judge
from .plans import SHARED_KEYS, Habits
from .rows import Key, Row, read_row
from .session import Connection, Counts, Session, Shared
from .shape import SHAPES, Shape, create_sql, disagree_sql, register_sql, select_list
from .statements import OWNERS, TOKEN, Writer, insert

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
    truncate: float = 0.002
    limit_s: float = 60.0


@dataclass
class Result:
    """A finished round."""

    options: Options
    counts: Counts
    verdict: Verdict
    problems: list[str]
    transactions: list[Transaction] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

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
            self._initial.effects = [Effect(1, key, row) for key, row in self._read(db, 1).items()]

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
                victim = self._rng.choice([*sessions, *operators])
                with contextlib.suppress(psycopg.Error), self._admin() as admin:
                    done = admin.execute("select pg_terminate_backend(%s)", [victim.pid]).fetchone()
                    self._shared.counts["kills"] += bool(done and done[0])
            if self._rng.random() < self._options.crashes * 0.05 / expected_s:
                crash(self._server)
                self._server.start()
                self._shared.counts["restarts"] += 1

    # Judgement ------------------------------------------------------------------------------------

    def _judge(self, transactions: list[Transaction]) -> Result:
        operator = Operator(self._shared)
        notes = [f"shape {self._shape.name}, policy {self._shared.policy}, verify "
                 f"{self._verifies}, complete {self._shared.archived}"]  # fmt: skip
        self._settle(operator)
        operator.close()
        with self._connect() as db:
            transactions = [self._initial, *transactions]
            self._resolve(db, transactions)
            failed = self._failed_keys(db)
            for keys, sql in self._shared.excuses:
                if not failed & set(keys):
                    self._shared.problems.append(f"unexpected 23505: {keys}: {sql}")
            for row in db.execute(disagree_sql(self._shape).encode()).fetchall():
                self._shared.problems.append(f"the tables disagree: {row}")
            self._unexplained(db, failed)
            verdict = judge(expect(transactions), self._read(db, 1), self._read(db, 2), failed)
        self._final_verify()
        self._shared.counts["mirror failures"] += len(failed)
        counts = self._shared.counts
        return Result(self._options, counts, verdict, self._shared.problems, transactions, notes)

    def _settle(self, operator: Operator) -> None:
        """Finish what is under way and drain what is open."""
        if operator.call("select stage from crossfade.pairs") == "complete":
            done = any(way_back(operator, self._shared) for _ in range(10))
            if not done:
                self._shared.problems.append("no way back from complete")
        operator.call("update crossfade_private.mirror_state set mirror = 'both' "
                      "where mirror = 'log_only' returning 1")  # fmt: skip
        # What V2 refused can be repaired only when it does not refuse any more.
        operator.call("alter table public.box_v2 drop constraint amount_is_small")
        paused = "select id from crossfade.runs where kind = 'backfill' and state = 'paused'"
        run = operator.call(paused)
        if run is not None:
            operator.call(f"select crossfade.control_run({run}, 'resume', 'soak')")
        if operator.call("select last_backfill_at is null from crossfade.pairs"):
            operator.call("select crossfade.start_backfill('box')")
        deadline = time.monotonic() + 30
        while active_run(operator, "backfill") is not None and time.monotonic() < deadline:
            batch(operator, "backfill")
        answer: dict[str, Any] = {"remaining": 1, "repaired": 1}
        while answer["remaining"] and answer["repaired"]:
            answer = operator.call("select crossfade.repair('box', 5000, 'soak')") or answer
        if answer["remaining"]:
            self._shared.problems.append(f"repair does not drain: {answer}")
        if active_run(operator, "backfill") is not None:
            self._shared.problems.append("the backfill does not finish")

    def _final_verify(self) -> None:
        operator = Operator(self._shared)
        operator.call("update crossfade.runs set state = 'cancelled' where kind = 'verify' "
                      "and state in ('running', 'paused') returning 1")  # fmt: skip
        found = verify_pass(operator, self._shared)
        if found:
            self._shared.problems.append(f"the engine's own verify finds {found} mismatches")
        operator.close()

    def _resolve(self, db: Connection, transactions: Iterable[Transaction]) -> None:
        """Find out what committed: the server's word counts, for lost connections above all."""
        times = dict(
            db.execute("select token, pg_xact_commit_timestamp(xmin) from soak.txns").fetchall()
        )
        for transaction in transactions:
            transaction.committed_at = times.get(transaction.token)
            committed = transaction.committed_at is not None
            if transaction.outcome == "unknown":
                self._shared.counts["unknown: committed" if committed else "unknown: lost"] += 1
            elif transaction.outcome == "committed" and not committed:
                self._shared.problems.append(f"committed transaction {transaction.token} is gone")
            elif transaction.outcome == "rolled_back" and committed:
                self._shared.problems.append(f"rolled back {transaction.token} is there")

    def _failed_keys(self, db: Connection) -> set[Key]:
        found = db.execute("select distinct key from crossfade.mirror_failures").fetchall()
        return {self._shape.json_key(row[0]) for row in found}

    def _unexplained(self, db: Connection, failed: set[Key]) -> None:
        """Differences that verify saw and that nobody had recorded."""
        if self._shared.archived:
            return  # V1 fell behind on purpose
        found = db.execute(
            "select key, kind, columns, found_at from crossfade.mismatches where kind <> 'missing_v2'"
        )
        for row in found.fetchall():
            if self._shape.json_key(row[0]) not in failed:
                self._shared.problems.append(f"a difference that nobody recorded: {row}")

    def _read(self, db: Connection, side: int) -> dict[Key, Row]:
        text = f"select {select_list(self._shape, side)} from {self._shape.table(side)} t"
        width = len(self._shape.keys(side))
        return {
            self._shape.key(row[:width]): read_row(side, row[width:])
            for row in db.execute(text.encode()).fetchall()
        }


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
