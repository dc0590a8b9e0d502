"""SIGKILL in the middle of a backfill under traffic: it resumes each time, nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from crossfade.demo.history import chats, load_history, read_dataset
from crossfade.demo.journal import Journal
from crossfade.demo.meter import RequestMeter
from crossfade.demo.proof import prove
from crossfade.demo.run import watch_sql
from crossfade.demo.session import Desk
from crossfade.demo.traffic import ClientTraffic, Endpoint, TrafficPlan, sign_up_users
from crossfade.local import LocalStack

PAIR = "chat_messages"
ROWS = 4_000
BACKFILL = ("backfill", "run", PAIR, "--yes", "--json")
PLAN = TrafficPlan(rate=20, v1=4, v2=3, both=1, returning=0, threads=4)


@dataclass
class Project:
    """A running stack with history, clients at work, and a backfill of small batches begun."""

    stack: LocalStack
    traffic: ClientTraffic
    journal: Journal
    controller: subprocess.Popen[bytes]
    log: Path

    def finish(self, *words: str) -> None:
        process = command(self.stack, self.log, *words)
        assert process.wait(timeout=120) == 0, self.log.read_text()

    def rows_copied(self) -> int:
        return self.number("select coalesce(sum(rows_written), 0) from crossfade.run_ranges")

    def number(self, sql: str) -> int:
        with psycopg.connect(self.stack.info.db_url) as conn:
            found = conn.execute(sql.encode()).fetchone()
        assert found is not None
        return int(found[0])

    def crash(self, kill: Callable[["Project"], None]) -> None:
        """Kill a part in the middle of the backfill; the backfill and the clients go on."""
        before = self.rows_copied()
        kill(self)
        copied = self.rows_copied()
        assert before <= copied < ROWS, "the crash did not hit the middle of the backfill"
        acknowledged = self.journal.acknowledged
        # A controller that was not killed outlives a short outage.
        if self.controller.poll() is not None:
            self.controller = command(self.stack, self.log, *BACKFILL)
        wait_until(lambda: self.rows_copied() > copied + 500, "the backfill goes on")
        wait_until(lambda: self.journal.acknowledged > acknowledged + 10, "clients go on")


def command(stack: LocalStack, log: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command of the control plane in a process of its own."""
    environment = {
        **os.environ,
        "SUPABASE_URL": stack.info.api_url,
        "SUPABASE_SECRET_KEY": stack.info.secret_key,
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "crossfade", *words],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if true():
            return
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


@pytest.fixture
def project(stack_root: Path) -> Iterator[Project]:
    folder = stack_root / "crashes"
    folder.mkdir()
    # Durable: what SIGKILL leaves of a database without fsync would prove nothing.
    with LocalStack(folder / "stack", functions=("chat",), isolates=1) as stack:
        info = stack.info
        endpoint = Endpoint(info.api_url, f"{info.api_url}/functions/v1/chat", info.publishable_key)
        accounts = sign_up_users(endpoint, PLAN.v1 + PLAN.v2 + PLAN.both)
        with psycopg.connect(info.db_url, autocommit=True) as conn:
            conn.execute(watch_sql())
            load_history(conn, chats(read_dataset(), rows=ROWS))
            conn.execute("update crossfade.settings set value = '50' where name = 'batch_max_rows'")
            conn.execute("select crossfade.set_stage('chat_messages', 'dualwrite', 'crash test')")
        journal = Journal(folder / "journal.jsonl")
        traffic = ClientTraffic(
            endpoint, PLAN, accounts=accounts, desk=Desk(journal, RequestMeter())
        )
        traffic.start()
        log = folder / "commands.log"
        controller = command(stack, log, *BACKFILL)
        found = Project(stack, traffic, journal, controller, log)
        try:
            wait_until(lambda: found.rows_copied() > 500, "the backfill begins")
            yield found
        finally:
            found.controller.kill()
            found.controller.wait()
            traffic.stop()
            journal.close()


def kill_controller(project: Project) -> None:
    project.controller.send_signal(signal.SIGKILL)
    project.controller.wait()


def kill_gateway(project: Project) -> None:
    project.stack.kill("gateway")
    project.stack.start_missing()


def kill_postgres(project: Project) -> None:
    project.stack.kill("postgres")
    project.stack.start_missing()


def test_backfill_survives_sigkill(project: Project) -> None:
    for kill in (kill_controller, kill_gateway, kill_postgres):
        project.crash(kill)
    with psycopg.connect(project.stack.info.db_url, autocommit=True) as conn:
        # What is left may go quickly.
        conn.execute("update crossfade.settings set value = '1000' where name = 'batch_max_rows'")
    project.controller.wait(timeout=120)
    if project.number("select count(*) from crossfade.runs where state <> 'finished'"):
        project.finish(*BACKFILL)
    project.traffic.stop()
    project.traffic.check()
    project.finish("verify", "run", PAIR)
    project.journal.close()

    with psycopg.connect(project.stack.info.db_url, autocommit=True) as conn:
        proof = prove(
            conn,
            journal=project.journal.path,
            history=chats(read_dataset(), rows=ROWS),
            pair=PAIR,
        )
    assert proof.findings == ()
    assert proof.history_rows == ROWS
    assert proof.v1_rows == proof.v2_rows >= ROWS
    assert project.number("select count(*) from crossfade.runs where kind = 'backfill'") == 1
    assert (
        project.number("select count(*) from crossfade.mirror_failures where resolved_at is null")
        == 0
    )
