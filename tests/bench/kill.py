"""A stack with the chat function, live for everybody, and users who never stop asking."""

from __future__ import annotations

import random
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from pydantic import SecretStr

from crossfade.demo.client import ChatClient, http_client
from crossfade.demo.drill import SWITCH, Drill
from crossfade.demo.journal import Journal
from crossfade.demo.meter import RequestMeter
from crossfade.demo.probes import V2, Prober
from crossfade.demo.run import watch_sql
from crossfade.demo.session import Desk, Visit
from crossfade.demo.traffic import Endpoint, sign_up_users
from crossfade.demo.trouble import CUT_OFF
from crossfade.gateway import SupabaseGateway
from crossfade.local import LocalStack
from crossfade.project.config import Connection

PAIR = "chat_messages"

# A direct write of V2 that was committed between the commit of a kill and that of its release.
WRITES_AFTER_KILL = """
with switched as (
  select pg_xact_commit_timestamp(a.xmin) as at, (a.after ->> 'engaged')::boolean as engaged,
    lead(pg_xact_commit_timestamp(a.xmin)) over (order by a.id) as until
  from crossfade.audit a where a.action = 'kill_switch.update' and a.object = %s
)
select count(*) from crossfade_demo.direct_writes w
join switched s on s.engaged and pg_xact_commit_timestamp(w.xmin) > s.at
  and pg_xact_commit_timestamp(w.xmin) < coalesce(s.until, 'infinity')
"""


@dataclass(frozen=True)
class Killing:
    """A drill that may begin, and what the database saw of it."""

    drill: Drill
    conn: psycopg.Connection

    def v2_writes(self) -> tuple[int, int]:
        """Direct writes of V2 in all, and those after a kill."""
        (every,) = self.conn.execute(
            "select count(*) from crossfade_demo.direct_writes"
        ).fetchone() or (0,)
        (late,) = self.conn.execute(WRITES_AFTER_KILL, [SWITCH]).fetchone() or (0,)
        return int(every), int(late)


@contextmanager
def killing(*, realtime: bool) -> Iterator[Killing]:
    """Start it all. Without ``realtime`` the isolates hear no broadcast."""
    env = {} if realtime else {"CROSSFADE_BROADCAST": "off"}
    with ExitStack() as open_now:
        folder = open_now.enter_context(
            tempfile.TemporaryDirectory(prefix="crossfade-kill-", ignore_cleanup_errors=True)
        )
        Path(folder).chmod(0o755)
        stack = open_now.enter_context(
            LocalStack(Path(folder) / "stack", functions=("chat",), isolates=2, env=env)
        )
        info = stack.info
        conn = open_now.enter_context(psycopg.connect(info.db_url, autocommit=True))
        conn.execute(watch_sql())
        gateway = open_now.enter_context(
            SupabaseGateway(Connection(info.api_url, SecretStr(info.secret_key), "bench"))
        )
        serve_everybody_from_v2(gateway, conn)
        chat = f"{info.api_url}/functions/v1/chat"
        endpoint = Endpoint(info.api_url, chat, info.publishable_key)
        stale = stack.spawn_isolate("chat", env=CUT_OFF)
        desk = Desk(Journal(Path(folder) / "journal.jsonl"), RequestMeter())
        open_now.callback(desk.journal.close)
        probers = []
        for number, (account, url) in enumerate(
            zip(sign_up_users(endpoint, 3), (chat, chat, stale), strict=True)
        ):
            http = open_now.enter_context(http_client())
            client = ChatClient(http, base_url=url, key=info.publishable_key, account=account)
            session = Visit(client, (V2,), desk=desk, rng=random.Random(number))
            prober = Prober(
                session,
                name=f"prober-{uuid.uuid4().hex[:4]}",
                reads=number != 1,
                writes=number != 0,
                pause_s=0.005,
            )
            prober.start()
            open_now.callback(prober.stop)
            probers.append(prober)
        yield Killing(Drill(gateway, conn, probers[:2], probers[2], lambda: None), conn)


def serve_everybody_from_v2(gateway: SupabaseGateway, conn: psycopg.Connection) -> None:
    """Empty tables: nothing has to be copied."""
    conn.execute("update crossfade.settings set value = '0' where name = 'shadow_min_reads'")
    conn.execute("select crossfade.set_flag('use_advanced_messages', '{\"enabled\": true}', 'b')")
    conn.execute("select crossfade.set_stage(%s, 'dualwrite', 'bench')", [PAIR])
    for start, batch in (("start_backfill", "backfill_batch"), ("start_verify", "verify_batch")):
        if start == "start_verify":
            conn.execute("select crossfade.set_stage(%s, 'shadow', 'bench')", [PAIR])
        (run,) = conn.execute(
            f"select crossfade.{start}(%s) -> 'run' ->> 'id'".encode(), [PAIR]
        ).fetchone() or (0,)
        for _ in range(20):
            conn.execute(f"select crossfade.{batch}(%s)".encode(), [run])
            if gateway.run_status(int(run)).state.is_over:
                break
    conn.execute("select crossfade.set_stage(%s, 'live', 'bench')", [PAIR])
    conn.execute("select crossfade.set_cohort(%s, '{\"percentage\": 100}', 'bench')", [PAIR])
