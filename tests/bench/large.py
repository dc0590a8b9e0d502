"""``python -m tests.bench.large --rows 10000000``: does a run stay as it was, however long it is?

Generates a table, backfills and verifies it through the Data API, and prints rows per second, the
time of batches and the memory of the control plane (this process), for the first tenth and the
last. Needs about 600 bytes of disk a row, twice that while it checkpoints.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from pydantic import SecretStr

from crossfade.gateway import SupabaseGateway
from crossfade.local import LocalStack
from crossfade.project.config import Connection
from crossfade.runs.backfill import run_backfill
from crossfade.runs.model import Batch
from crossfade.runs.verify import run_verify

from .measure import ROOT

TABLES = """
create table public.events (id bigint primary key, body text not null, at timestamptz not null);
create table public.events_v2 (
  id bigint primary key, body jsonb not null, at timestamptz not null, pinned boolean not null);
create function public.events_to_v2(new_v1 public.events, old_v2 public.events_v2)
returns setof public.events_v2 language sql stable as $$
  select new_v1.id, jsonb_build_object('text', new_v1.body), new_v1.at,
    coalesce(old_v2.pinned, false)
$$;
create function public.events_to_v1(new_v2 public.events_v2, old_v1 public.events)
returns setof public.events language sql stable as $$
  select new_v2.id, new_v2.body ->> 'text', new_v2.at
$$;
alter table public.events enable row level security;
alter table public.events_v2 enable row level security;
select crossfade.register_pair('events', 'public.events', 'public.events_v2',
  'public.events_to_v2', 'public.events_to_v1');
"""


@dataclass
class Watched:
    """The gateway, watched: the time of each batch, and the memory of this process after it."""

    gateway: SupabaseGateway
    batches: list[tuple[int, float, int]] = field(default_factory=list)
    _process: psutil.Process = field(default_factory=psutil.Process)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gateway, name)

    def backfill_batch(self, run: int, *, target_ms: int) -> Batch:
        return self._note(self.gateway.backfill_batch(run, target_ms=target_ms))

    def verify_batch(self, run: int, *, target_ms: int) -> Batch:
        return self._note(self.gateway.verify_batch(run, target_ms=target_ms))

    def _note(self, batch: Batch) -> Batch:
        if batch.rows_read:
            rss = self._process.memory_info().rss
            self.batches.append((batch.rows_read, float(batch.batch_ms), rss))
            if len(self.batches) % 50 == 0:
                done = sum(rows for rows, _, _ in self.batches)
                print(f"  {done:,} rows, {batch.batch_ms:.0f} ms, {rss / 2**20:.1f} MB", flush=True)
        return batch


def tenth(batches: Sequence[tuple[int, float, int]], *, last: bool) -> dict[str, float]:
    """Return the figures of the first or the last tenth of the batches.

    The first ten are left out: the batch size is still being found.
    """
    size = max(2, len(batches) // 10)
    some = batches[-size:] if last else batches[10 : 10 + size]
    times = sorted(ms for _, ms, _ in some)
    return {
        "batches": len(some),
        "rows per batch": statistics.median(rows for rows, _, _ in some),
        "p50 ms": statistics.median(times),
        "p90 ms": times[int(len(times) * 0.9)],
        "max ms": times[-1],
        "ms per 1,000 rows": 1000 * sum(times) / sum(rows for rows, _, _ in some),
        "control plane MB": max(rss for _, _, rss in some) / 2**20,
    }


def measure(name: str, gateway: SupabaseGateway, work: Callable[[Any], Batch]) -> dict[str, Any]:
    """Run one kind of run to its end; return and print its figures."""
    print(f"{name}:", flush=True)
    watched = Watched(gateway)
    start = time.monotonic()
    last = work(watched)
    seconds = time.monotonic() - start
    found = {
        "rows": last.run.rows_done,
        "mismatches": last.run.mismatches,
        "seconds": round(seconds, 1),
        "rows per s": round(last.run.rows_done / seconds),
        "first tenth": tenth(watched.batches, last=False),
        "last tenth": tenth(watched.batches, last=True),
    }
    print(json.dumps(found, indent=2), flush=True)
    return found


def fill(db: psycopg.Connection[tuple[Any, ...]], rows: int) -> None:
    """Generate the rows, a million at a time."""
    for start in range(1, rows + 1, 1_000_000):
        end = min(start + 999_999, rows)
        db.execute(
            "insert into public.events select n, 'event ' || n, "
            "timestamptz '2026-01-01 00:00+00' + n * interval '1 second' "
            "from generate_series(%s::bigint, %s::bigint) n",
            [start, end],
        )
    db.execute("vacuum (analyze) public.events")


def main() -> None:
    """Generate, backfill, verify, print; write build/large.json."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.large", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with (
        tempfile.TemporaryDirectory(prefix="crossfade-large-", ignore_cleanup_errors=True) as name,
    ):
        Path(name).chmod(0o755)
        with LocalStack(Path(name) / "project", functions=(), pairs=(), durable=False) as stack:
            start = time.monotonic()
            with psycopg.connect(stack.info.db_url, autocommit=True) as db:
                db.execute(TABLES.encode())
                fill(db, rows)
                db.execute("select crossfade.set_stage('events', 'dualwrite', 'large')")
            print(f"{rows:,} rows generated in {time.monotonic() - start:.0f} s", flush=True)
            key = SecretStr(stack.info.secret_key)
            with SupabaseGateway(Connection(stack.info.api_url, key, "large")) as gateway:
                found = {
                    "backfill": measure("backfill", gateway, lambda g: run_backfill(g, "events")),
                    "verify": measure("verify", gateway, lambda g: run_verify(g, "events")),
                }
    report = ROOT / "build" / "large.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(found, indent=2) + "\n")
    assert found["backfill"]["rows"] == found["verify"]["rows"] == rows
    assert found["verify"]["mismatches"] == 0


if __name__ == "__main__":
    main()
