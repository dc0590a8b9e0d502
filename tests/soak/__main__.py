"""``python -m tests.soak``: run rounds for a time and print what happened.

python -m tests.soak --seconds 600              rounds of new seeds for ten minutes
python -m tests.soak --seed 123 --rounds 1      one round again
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from crossfade.local.postgres import PostgresServer
from tests.folders import memory_folder

from .databases import make_server, ready
from .kinds import KINDS
from .report import explain, never_done, script, size, summary
from .rounds import Replays, Rounds
from .shrink import Found, shrink

SHRINK_S = 120


@contextlib.contextmanager
def servers(version: int) -> Iterator[tuple[PostgresServer, Callable[[], PostgresServer]]]:
    """Start a server with the migrated template, and give a way to a second cluster."""
    with (
        tempfile.TemporaryDirectory(
            prefix="crossfade-soak-", dir=memory_folder(), ignore_cleanup_errors=True
        ) as name,
        contextlib.ExitStack() as stack,
    ):
        server = stack.enter_context(make_server(Path(name), version))
        ready(server)
        others: list[PostgresServer] = []

        def spare() -> PostgresServer:
            if not others:
                folder = Path(name) / "spare"
                folder.mkdir()
                others.append(stack.enter_context(make_server(folder, version)))
                others[0].bootstrap()  # the roles, which no dump of a database holds
            return others[0]

        yield server, spare


def soak(
    rounds: Rounds, seed: int, *, seconds: float, number: int
) -> tuple[int, Found | None, bool]:
    """Run rounds with seeds from ``seed`` on; stop at the first that fails; print the counts.

    Returns:
        How many rounds ran, the one that failed, and whether the engine did all of its works.
    """
    total: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    done, failed = 0, None
    while failed is None and (done < number if number else time.monotonic() < end):
        found = rounds.run(seed + done)
        total.update(found.outcome.counts)
        done += 1
        failed = found if found.outcome.problems else None
    total["rounds"] = done
    print(summary(total, failed.outcome.problems if failed else ()), flush=True)
    missed = never_done(total)
    print(f"NEVER DONE: {', '.join(missed)}\n" if missed else "", end="", flush=True)
    return done, failed, not missed


def main() -> int:
    """Run the soak; return 1 when a round failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=0, help="0: as many as the time allows")
    parser.add_argument("--crowds", type=float, default=Rounds.crowds, help="share with sessions")
    parser.add_argument("--kind", default="", choices=("", *KINDS), help="of all rounds")
    parser.add_argument("--version", type=int, default=18, choices=(15, 16, 18))
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a smaller script")
    parser.add_argument("--script", type=Path, help="write what failed here, for psql")
    given = parser.parse_args()
    print(f"seed {given.seed}, PostgreSQL {given.version}", flush=True)
    with servers(given.version) as (server, spare):
        rounds = Rounds(server, given.version, spare, crowds=given.crowds, kind=given.kind)
        done, found, whole = soak(rounds, given.seed, seconds=given.seconds, number=given.rounds)
        if found is None:
            return 0 if whole else 1
        seed = given.seed + done - 1
        print(explain(found, seed), flush=True)
        if found.items and not given.no_shrink:
            with Replays(rounds) as replays:
                found = shrink(replays.play, found, seconds=SHRINK_S)
            print(f"smallest that was found: {size(found.items)}", explain(found, seed), sep="\n")
        if found.items and given.script:
            given.script.write_text(script(found, seed))
        print(*found.outcome.log, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
