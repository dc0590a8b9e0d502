"""What clients of the chat API notice of dual write and of a backfill: next to nothing."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from pydantic import SecretStr

from crossfade.core.contract import Stage
from crossfade.demo.history import chats, load_history, read_dataset
from crossfade.demo.journal import Journal
from crossfade.demo.meter import RequestMeter
from crossfade.demo.session import Desk
from crossfade.demo.traffic import ClientTraffic, Endpoint, TrafficPlan, sign_up_users
from crossfade.gateway import SupabaseGateway
from crossfade.local import LocalStack
from crossfade.project.config import Connection
from crossfade.runs.backfill import run_backfill
from tests.integration.chat_project import PAIR, Project, User, sign_up_user

from .measure import Ratio, Report
from .pair import SCALE, scaled

BLOCKS = scaled(120)
# What people do with a chat.
MIX = ("list",) * 5 + ("create",) * 3 + ("reply",) * 2
REQUESTS = 3 * len(MIX)  # a block
HISTORY_ROWS = None if SCALE >= 1 else scaled(250_000)  # None: all of the data set
BACKFILLS = 3
WHEN = ("backfill", "before")
BEFORE_S = max(5.0, 45 * SCALE)


def test_chat_api_latency(report: Report) -> None:
    """Blocks of requests with the mirror on and off take turns, so that both meet the same load."""
    times: dict[str, list[list[float]]] = {"dualwrite": [], "off": []}
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        env = {"CROSSFADE_SOFT_AGE_MS": "100", "CROSSFADE_BROADCAST": "on"}
        with LocalStack(Path(name) / "project", env=env, isolates=1) as stack:
            project = Project(stack)
            user = sign_up_user(project)
            for number in range(BLOCKS):
                order = ("dualwrite", "off") if number % 2 else ("off", "dualwrite")
                for stage in order:
                    project.at(stage)
                    user.catch_up(project)
                    chat = user.new_chat()  # lists of both sides are equally long
                    block(user, chat, len(MIX))
                    times[stage].append(block(user, chat, REQUESTS))
            project.http.close()
            user.http.close()
    for label, part in (("p50", 0.5), ("p95", 0.95)):
        report.add(
            f"chat API latency, {label}, dual write on",
            compare(times["dualwrite"], times["off"], part),
            "<= 1.05",
            against="the same mix of requests with the mirror off (ms)",
        )


def block(user: User, chat: str, count: int) -> list[float]:
    """Send the requests of the mix one after the other; return their times in ms."""
    found = []
    for number in range(count):
        kind = MIX[number * 3 % len(MIX)]  # not all lists first
        start = time.perf_counter()
        if kind == "list":
            answer = user.ask("GET", f"/v1/messages?chat_id={chat}&limit=50")
        elif kind == "create":
            answer = user.say(chat, "a few words of chat")
        else:
            answer = user.ask("POST", "/v1/reply", {"chat_id": chat})
        found.append(1000 * (time.perf_counter() - start))
        assert answer.status_code == (200 if kind == "list" else 201), answer.text
    return found


def compare(ours: list[list[float]], theirs: list[list[float]], part: float) -> Ratio:
    """Compare the least disturbed half of the blocks of each side, all their requests together."""
    ratios = [quantile(a, part) / quantile(b, part) for a, b in zip(ours, theirs, strict=True)]
    own, other = (quantile(quiet(side), part) for side in (ours, theirs))
    spread = f"block by block {min(ratios):.2f} to {max(ratios):.2f}, median "
    spread += f"{statistics.median(ratios):.2f}, {len(ratios)} blocks of {len(ours[0])}"
    return Ratio(own / other, spread, {"ours": own, "theirs": other})


def quiet(blocks: list[list[float]]) -> list[float]:
    """Return the requests of the faster half of the blocks."""
    best = sorted(blocks, key=statistics.median)[: (len(blocks) + 1) // 2]
    return [ms for some in best for ms in some]


def quantile(times: list[float], part: float) -> float:
    """Return the time that this part of the requests did not exceed."""
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


class V1Times(RequestMeter):
    """A meter that keeps the times of requests of V1 clients in parts of the story."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, list[float]] = {}
        self.part = "start"

    def request(self, *, wire: int, backend: int | None, latency_ms: float) -> None:
        super().request(wire=wire, backend=backend, latency_ms=latency_ms)
        if wire == 1:
            self.parts.setdefault(self.part, []).append(latency_ms)


def test_v1_latency_while_a_backfill_runs(report: Report) -> None:
    """The traffic of the demo, with the demo's history, copied as an operator does it."""
    meter = V1Times()
    with demo_stack(meter) as (gateway, db, traffic):
        seconds, rows = 0.0, 0
        for number in range(BACKFILLS):
            gateway.set_stage(PAIR, Stage.OFF, reason="bench", confirm=True)
            db.execute("truncate public.chat_messages_v2")
            gateway.set_stage(PAIR, Stage.DUALWRITE, reason="bench", confirm=False)
            meter.part = "settling"
            time.sleep(BEFORE_S / 3)
            meter.part = f"before {number}"
            time.sleep(BEFORE_S)
            meter.part = f"backfill {number}"
            start = time.perf_counter()
            last = run_backfill(gateway, PAIR)
            seconds += time.perf_counter() - start
            meter.part = "after"
            assert last.run.finished_at is not None, last
            rows += last.run.rows_done
            traffic.check()
    assert not meter.errors_of(1), meter.samples
    sides = [[meter.parts[f"{what} {n}"] for n in range(BACKFILLS)] for what in WHEN]
    beside = {
        "rows/s": rows / seconds,
        "requests before": float(sum(map(len, sides[1]))),
        "requests while it runs": float(sum(map(len, sides[0]))),
    }
    for label, part, limit in (("p50", 0.5, "<= 1.15"), ("p95", 0.95, "<= 1.25")):
        ratios = [
            quantile(a, part) / quantile(b, part) for a, b in zip(sides[0], sides[1], strict=True)
        ]
        own, other = (quantile([ms for some in side for ms in some], part) for side in sides)
        spread = f"run by run {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
        report.add(
            f"V1 API latency, {label}, while a backfill runs",
            Ratio(own / other, spread, {"while it runs, ms": own, "before, ms": other, **beside}),
            limit,
            against="the same traffic before it",
        )


@contextmanager
def demo_stack(
    meter: RequestMeter,
) -> Iterator[tuple[SupabaseGateway, psycopg.Connection, ClientTraffic]]:
    """Start a stack with the demo's history and clients, stage off, default settings."""
    with ExitStack() as open_now:
        folder = open_now.enter_context(
            tempfile.TemporaryDirectory(prefix="crossfade-bench-", ignore_cleanup_errors=True)
        )
        Path(folder).chmod(0o755)
        stack = open_now.enter_context(
            LocalStack(Path(folder) / "stack", env={"CROSSFADE_BROADCAST": "on"})
        )
        info = stack.info
        gateway = SupabaseGateway(Connection(info.api_url, SecretStr(info.secret_key), "bench"))
        open_now.callback(gateway.close)
        db = open_now.enter_context(psycopg.connect(info.db_url, autocommit=True))
        load_history(db, list(chats(read_dataset(), rows=HISTORY_ROWS)))
        db.execute("vacuum analyze public.chat_messages")
        plan = TrafficPlan(returning=0)
        chat = f"{info.api_url}/functions/v1/chat"
        endpoint = Endpoint(info.api_url, chat, info.publishable_key)
        journal = Journal(Path(folder) / "journal.jsonl")
        open_now.callback(journal.close)
        traffic = ClientTraffic(
            endpoint,
            plan,
            accounts=sign_up_users(endpoint, plan.v1 + plan.v2 + plan.both),
            desk=Desk(journal, meter),
        )
        traffic.start()
        open_now.callback(traffic.stop)
        yield gateway, db, traffic
