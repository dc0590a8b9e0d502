"""``python -m tests.soak``: run rounds for a time and print what happened.

python -m tests.soak --seconds 600              rounds of new seeds for ten minutes
python -m tests.soak --seed 123 --rounds 1      one round again
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from crossfade.local.postgres import PostgresServer
from tests.sql.conftest import DEBIAN_15, migrated

from .client import Counts
from .driver import TEMPLATE, Options, Result, Round
from .report import explain, summary
from .shrink import shrink

SERVER = {"deadlock_timeout": "60ms", "log_min_messages": "fatal", "checkpoint_timeout": "60s"}


def make_server(folder: Path, version: str) -> PostgresServer:
    """Return a server that keeps what it confirmed through a crash."""
    folder.chmod(0o755)
    if version == "15":
        return PostgresServer(folder / "pg15", bin_dir=DEBIAN_15, settings=SERVER)
    return PostgresServer(folder / f"pg{version}", version=int(version), settings=SERVER)


def soak(server: PostgresServer, options: Options, *, seconds: float, rounds: int) -> Result:
    """Run rounds with seeds from options.seed on; stop at the first that fails.

    The server must hold the migrated template database.

    Returns:
        The last round, with the counts of all.
    """
    total: Counts = collections.Counter()
    end = time.monotonic() + seconds
    number = 0
    while True:
        result = Round(server, replace(options, seed=options.seed + number)).run()
        total.update(result.counts)
        total["rounds"] += 1
        total["rows compared"] += result.verdict.exact
        number += 1
        if result.failed or number == rounds or (not rounds and time.monotonic() > end):
            result.counts = total
            return result


def main() -> int:
    """Run the soak; return 1 when a round failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=0, help="0: as many as the time allows")
    parser.add_argument("--sessions", type=int, default=Options.sessions)
    parser.add_argument("--transactions", type=int, default=Options.transactions)
    parser.add_argument("--crashes", type=float, default=Options.crashes)
    parser.add_argument("--version", default="18", choices=("15", "16", "18"))
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a smaller round")
    given = parser.parse_args()
    options = Options(given.seed, given.sessions, given.transactions, crashes=given.crashes)
    print(f"seed {given.seed}, PostgreSQL {given.version}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="crossfade-soak-", ignore_cleanup_errors=True) as name,
        make_server(Path(name), given.version) as server,
    ):
        assert migrated(server).database == TEMPLATE
        result = soak(server, options, seconds=given.seconds, rounds=given.rounds)
        print(summary(result))
        if result.failed:
            print(explain(result), flush=True)
            if not given.no_shrink:
                print("smallest that was found:", explain(shrink(server, result)))
    return int(result.failed)


if __name__ == "__main__":
    sys.exit(main())
