"""A real fault of version 2: its direct reads and writes are answered late, with an error."""

from datetime import datetime

import psycopg


class Fault:
    """Switch the fault that `sql/watch.sql` installed. Mirrored writes are never hit."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn

    def begin(self, *, delay_ms: int) -> datetime:
        """Let version 2 fail after a delay; return since when (clock of the database)."""
        row = self._conn.execute(
            "update crossfade_demo.fault set active = true, delay_ms = %s"
            " returning clock_timestamp()",
            (delay_ms,),
        ).fetchone()
        if row is None:
            raise LookupError("crossfade_demo.fault has no row")
        since: datetime = row[0]
        return since

    def end(self) -> None:
        """Let version 2 be well again."""
        self._conn.execute("update crossfade_demo.fault set active = false")
