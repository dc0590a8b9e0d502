"""Simulate the monitor often enough for a bound: `python -m tests.soak.simulations`.

Healthy: 2 % errors at 1, 5, 20 and 100 V2 requests a minute for six hours; at most 1 % of the runs
may be rolled back. Broken: every V2 request fails at 20 a minute; decided within 60 s.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from math import inf
from random import Random

from crossfade.rollouts.simulation import SimulatedTraffic, StepWorld, seconds_to_rollback
from tests.unit.builders import thresholds

SHARE = 0.25
HEALTHY = (1, 5, 20, 100)
MOST_FALSE_ALARMS = 0.01


def run(case: tuple[float, float, float, int]) -> float:
    """Seconds to the rollback: V2 requests a minute, error rate, hours, seed."""
    per_minute, error_rate, hours, seed = case
    traffic = SimulatedTraffic((per_minute / SHARE,), v2_error_rate=error_rate)
    world = StepWorld(SHARE, traffic, thresholds(), Random(f"{per_minute}:{error_rate}:{seed}"))
    return seconds_to_rollback(world, hours=hours)


def exact_upper(hits: int, n: int) -> float:
    """One-sided 95 % bound of the true share (Clopper and Pearson), by halving."""
    low, high = hits / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        term, total = (1 - middle) ** n, 0.0
        for k in range(hits + 1):
            total += term
            term *= (n - k) / (k + 1) * middle / (1 - middle) if middle < 1 else 0.0
        low, high = (middle, high) if total > 0.05 else (low, middle)
    return high


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line a case; exit code 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="of six hours, per rate")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(argv)
    bad = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for rate in HEALTHY:
            cases = [(float(rate), 0.02, 6.0, seed) for seed in range(given.runs)]
            fired = sum(found < inf for found in pool.map(run, cases, chunksize=5))
            share, bound = fired / given.runs, exact_upper(fired, given.runs)
            bad += share > MOST_FALSE_ALARMS
            print(
                f"healthy, 2 % errors, {rate}/min, 6 h: {fired} of {given.runs} rolled back"
                f" ({share:.2%}, below {bound:.2%} with 95 % confidence)",
                flush=True,
            )
        broken = list(pool.map(run, [(20.0, 1.0, 1.0, seed) for seed in range(2000)], chunksize=50))
        slowest = max(broken)
        bad += slowest > 60
        print(
            f"broken, 20/min: decided after {statistics.median(broken):.0f} s (median),"
            f" {sorted(broken)[int(len(broken) * 0.95)]:.0f} s (p95), {slowest:.0f} s (max of"
            f" {len(broken)})"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
