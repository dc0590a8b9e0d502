"""Deliberate races with the backfill: rows deleted and changed in the moment they are copied.

A job of the owner's, plain SQL beside the API, opens a transaction on a row just ahead of the
backfill and keeps it open until the backfill has come to that row. With the row lock the batch
waits and then sees the end of it; without, it copies a row that is being deleted, and the copy
stays behind as a zombie. The later sweep of a backfill may remove such a row again, so it is looked
for at once: a reader of version 2 would have seen it.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from crossfade.demo.failures import ThreadFailure
from crossfade.demo.journal import Entry, Journal

LOOK_AHEAD = 0.004  # of the key space: a batch or two
HOLD_S = 4.0
LOOK_AGAIN_S = 0.25
MOST_RACES = 25  # each stops the backfill for a moment; more would only make it look slow


@dataclass(slots=True)
class RaceResult:
    """What the races found.

    Attributes:
        races: Transactions that were open when the backfill came by.
        blocked: Those the backfill waited for.
        zombies: Rows that were in version 2 after their delete had committed.
        stale: Rows that had the old text in version 2 after their change had committed.
    """

    races: int = 0
    blocked: int = 0
    zombies: int = 0
    stale: int = 0


class Racer:
    """Run races in a thread until stopped.

    Args:
        connect: Opens a connection like an application's own job would.
        journal: Where acknowledged writes go (as wire 0).
        position: Tells how far the backfill is: 0.0 to 1.0 of the key space.
        protected: Rows other clients write; they are left alone.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        *,
        journal: Journal,
        position: Callable[[], float],
        protected: frozenset[uuid.UUID],
        seed: int = 7,
    ) -> None:
        self._connect = connect
        self._journal = journal
        self._position = position
        self._protected = protected
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._stop = threading.Event()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run, name="racer", daemon=True)
        self._failure = ThreadFailure("The job that races the backfill")
        self.result = RaceResult()

    def start(self) -> None:
        """Begin, and return when the first transaction is open: also a short run meets one."""
        self._thread.start()
        self._open.wait(5)

    def stop(self) -> RaceResult:
        """End the race under way and return what was found.

        Raises:
            StoryError: The racer itself broke.
        """
        self._stop.set()
        self._thread.join(HOLD_S + 5)
        self._failure.check()
        return self.result

    def _run(self) -> None:
        try:
            with self._connect() as job, self._connect() as watcher:
                watcher.autocommit = True
                while not self._stop.wait(0.02) and self.result.races < MOST_RACES:
                    self._race(job, watcher)
        except Exception as error:
            self._failure.keep(error)

    def _race(self, job: psycopg.Connection, watcher: psycopg.Connection) -> None:
        row = self._row_ahead(watcher)
        if row is None:
            return
        message_id, chat_id = row
        deletes = self._rng.random() < 0.7
        text = f"Changed while it was copied [{uuid.uuid4().hex[:16]}]"
        if deletes:
            job.execute("delete from public.chat_messages where id = %s", (message_id,))
        else:
            job.execute(
                "update public.chat_messages set content = %s where id = %s", (text, message_id)
            )
        self._open.set()
        came = self._hold(job, watcher, message_id)
        job.commit()
        self._journal.write(
            Entry(
                "delete" if deletes else "edit",
                message_id,
                chat_id,
                wire=0,
                plain=None if deletes else text,
            )
        )
        if came is None:
            return
        self.result.races += 1
        self.result.blocked += came == "waits"
        if deletes:
            self.result.zombies += self._seen(watcher, message_id, None)
        else:
            self.result.stale += self._seen(watcher, message_id, text)

    def _row_ahead(self, watcher: psycopg.Connection) -> tuple[uuid.UUID, uuid.UUID] | None:
        start = min(self._position() + LOOK_AHEAD, 0.999)
        rows = watcher.execute(
            "select m.id, m.chat_id from public.chat_messages as m"
            " where m.id > %s and m.created_at < now() - interval '1 day'"
            " and not exists (select from public.chat_messages_v2 as n where n.id = m.id)"
            " order by m.id limit 20",
            (uuid.UUID(int=int(start * 2**128)),),
        ).fetchall()
        for message_id, chat_id in rows:
            if message_id not in self._protected:
                return message_id, chat_id
        return None

    def _hold(
        self, job: psycopg.Connection, watcher: psycopg.Connection, message_id: uuid.UUID
    ) -> str | None:
        """Keep the transaction open until the backfill is there; say whether it waits or passed."""
        until = time.monotonic() + HOLD_S
        pid = job.info.backend_pid
        while time.monotonic() < until and not self._stop.is_set():
            waits = watcher.execute(
                "select from pg_catalog.pg_stat_activity"
                " where wait_event_type = 'Lock' and %s = any (pg_catalog.pg_blocking_pids(pid))",
                (pid,),
            ).fetchone()
            if waits is not None:
                return "waits"
            if self._copied(watcher, message_id):
                return "passed"
            time.sleep(0.004)
        return None

    def _copied(self, watcher: psycopg.Connection, message_id: uuid.UUID) -> bool:
        found = watcher.execute(
            "select from public.chat_messages_v2 where id = %s", (message_id,)
        ).fetchone()
        return found is not None

    def _seen(self, watcher: psycopg.Connection, message_id: uuid.UUID, text: str | None) -> int:
        """Look at version 2 for a while: 1 when it ever shows what the commit made wrong."""
        until = time.monotonic() + LOOK_AGAIN_S
        while time.monotonic() < until:
            row = watcher.execute(
                "select coalesce(content -> 0 ->> 'text', '') from public.chat_messages_v2"
                " where id = %s",
                (message_id,),
            ).fetchone()
            if row is not None and row[0] != text:
                return 1
            time.sleep(0.01)
        return 0
