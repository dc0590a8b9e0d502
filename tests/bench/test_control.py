"""The control plane: how long a kill takes to have its effect, what a backfill costs in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest

from crossfade.local import LocalStack

from .kill import killing
from .measure import Ratio, Report

KILLS = int(os.environ.get("BENCH_KILLS", "100"))
ROWS = int(os.environ.get("BENCH_MEMORY_ROWS", "25000"))


@pytest.mark.parametrize(
    ("realtime", "limit"),
    # Without Realtime a busy isolate learns of it with its next answer, an idle one by polling.
    [(True, "<= 100"), (False, "<= 5000")],
    ids=["by broadcast", "without Realtime"],
)
def test_kill_to_effect(realtime: bool, limit: str, report: Report) -> None:
    with killing(realtime=realtime) as world:
        result = world.drill.run(KILLS, limit_s=600, progress=lambda _: None)
        writes, late = world.v2_writes()
    name = "by broadcast" if realtime else "without Realtime"
    effects = [cycle.effect_ms for cycle in result.cycles]
    figures = {
        "kills": float(len(effects)),
        "p50 ms": result.effect_ms(0.50),
        "p99 ms": result.effect_ms(0.99),
        "max ms": max(effects),
        "commit p50 ms": result.commit_ms(0.50),
        "commit p99 ms": result.commit_ms(0.99),
        "V2 writes in all": float(writes),
        "V2 writes after a kill": float(late),
        "writes of an isolate that was cut off, served by V1": float(result.stale_writes_on_1),
    }
    assert writes > 0
    assert result.stale_writes_on_2 == 0
    measured = Ratio(result.effect_ms(0.99), f"{len(effects)} kills", figures)
    zero = Ratio(float(late), f"of {writes} writes")
    report.add(f"V2 writes after a kill, {name}", zero, "<= 0", against="the commit of the kill")
    report.add(
        f"kill committed to last V2 effect, ms (p99), {name}",
        measured,
        limit,
        against="the commit of the kill, by the database's clock",
    )


def test_memory_of_the_control_plane_does_not_grow_with_the_rows(report: Report) -> None:
    small, large = peak_mb(ROWS), peak_mb(4 * ROWS)
    found = Ratio(
        large / small, f"{small:.1f} and {large:.1f} MB", {"1x MB": small, "4x MB": large}
    )
    report.add(
        "control-plane memory while backfilling 4x the rows",
        found,
        "<= 1.1",
        against=f"the same with {ROWS:,} rows",
    )


def peak_mb(rows: int) -> float:
    """The largest resident memory of `crossfade backfill run` over so many rows."""
    with tempfile.TemporaryDirectory(
        prefix="crossfade-memory-", ignore_cleanup_errors=True
    ) as made:
        Path(made).chmod(0o755)
        with LocalStack(Path(made) / "stack", functions=(), durable=False) as stack:
            info = stack.info
            with psycopg.connect(info.db_url, autocommit=True) as conn:
                fill(conn, rows)
            environment = {
                **os.environ,
                "SUPABASE_URL": info.api_url,
                "SUPABASE_SECRET_KEY": info.secret_key,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "crossfade", "backfill", "run", "chat_messages", "--yes"],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            peak = watch(process)
            assert process.returncode == 0
            with psycopg.connect(info.db_url) as conn:
                (copied,) = conn.execute(
                    "select count(*) from public.chat_messages_v2"
                ).fetchone() or (0,)
            assert copied == rows
    return peak / 2**20


def fill(conn: psycopg.Connection, rows: int) -> None:
    """History of one chat, in batches small enough that there are many of them."""
    conn.execute("update crossfade.settings set value = '250' where name = 'batch_max_rows'")
    chat = "00000000-0000-4000-8000-000000000001"
    conn.execute("insert into public.chats (id, user_id) values (%s, %s)", [chat, chat])
    conn.execute(
        "insert into public.chat_messages (id, chat_id, role, content, metadata)"
        " select gen_random_uuid(), %s, 'user', repeat('a few words ', 20), '{}'"
        " from generate_series(1, %s)",
        [chat, rows],
    )
    conn.execute("select crossfade.set_stage('chat_messages', 'dualwrite', 'bench')")


def watch(process: subprocess.Popen[bytes]) -> int:
    """Largest resident set until it ends; Linux keeps the peak itself."""
    seen, found = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            found = max(found, _high_water(process.pid) or seen.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    return found


def _high_water(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0
