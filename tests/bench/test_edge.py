"""Ratios of the edge functions: flags against other projects' clients, and what a request costs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from crossfade.local.deno_runtime import deno_bin

from .measure import ROOT, Ratio, Report, awake

PEERS = ("unleash-client", "@openfeature/flagd-core", "@growthbook/growthbook")
ISOLATE_LIMIT_MB = 256  # of a hosted edge function


def deno(script: str, *arguments: str, config: str, allow: tuple[str, ...]) -> list[str]:
    """Return the command that runs one of the benches written in TypeScript."""
    options = ("--quiet", "--no-check", "--frozen", "--config", str(ROOT / config), *allow)
    return [str(deno_bin()), "run", *options, str(ROOT / script), *arguments]


def requests(*arguments: str) -> list[str]:
    return deno(
        "tests/edge/bench_requests.ts",
        *arguments,
        config="supabase/functions/chat/deno.json",
        allow=("--allow-net=127.0.0.1", f"--allow-read={ROOT / 'tests'}"),
    )


def lines(command: list[str], *, timeout_s: float = 300) -> list[dict[str, float]]:
    """Run a bench; return what it found, one entry a round."""
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        timeout=timeout_s,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def summary(values: list[float], beside: dict[str, float]) -> Ratio:
    """Return the median of the rounds, with their spread."""
    quarters = statistics.quantiles(values, n=4)
    spread = (
        f"{min(values):.2f} to {max(values):.2f}, middle half {quarters[0]:.2f} to "
        f"{quarters[2]:.2f}, {len(values)} rounds"
    )
    return Ratio(statistics.median(values), spread, beside)


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ("full", "flag evaluations/s, every rule"),
        ("share", "flag evaluations/s, percentage only"),
    ],
)
def test_flags_are_evaluated_faster_than_by_other_clients(
    rules: str, name: str, report: Report
) -> None:
    """Interleaved rounds in one process; the fastest peer of each round counts."""
    command = deno(
        "tests/peers/bench_flags.ts",
        rules,
        "15",
        "150",
        config="tests/peers/deno.json",
        allow=("--allow-all",),
    )
    rounds = lines(command)
    ratios = [found["crossfade"] / max(found[peer] for peer in PEERS) for found in rounds]
    beside = {who: statistics.median(found[who] for found in rounds) for who in rounds[0]}
    against = f"the fastest of {', '.join(PEERS)} with the same rules"
    report.add(name, summary(ratios, beside), ">= 2", against=against)


@contextmanager
def server(kind: str) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server of the bench; give its process and where it listens."""
    with subprocess.Popen(
        requests("serve", kind), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            yield psutil.Process(process.pid), process.stdout.readline().strip()
        finally:
            process.kill()


def test_negotiation_flags_and_conversion_add_little_to_a_request(report: Report) -> None:
    """The larger of reading and creating a message, for V1 clients while backend 2 serves."""
    with awake(), server("empty") as (_, empty), server("app") as (_, app):
        rounds = lines(requests("ask", empty, app, "15"))
    kinds = ("read", "create")
    added = [
        max(found[f"{kind} app"] - found[f"{kind} empty"] for kind in kinds) for found in rounds
    ]
    beside = {what: statistics.median(found[what] for found in rounds) for what in rounds[0]}
    against = "an empty Deno handler, which answers a constant and reads nothing"
    name = "added to a request, p50 in microseconds"
    report.add(name, summary(added, beside), "<= 100", against=against)


def test_an_isolate_keeps_its_memory_under_load(report: Report) -> None:
    """The largest resident set in five rounds of load; it must not grow from round to round."""
    with server("app") as (process, app):
        idle = process.memory_info().rss / 2**20
        sizes, answered = [], 0
        for _ in range(5):
            result = subprocess.run(
                requests("load", app, "4"), capture_output=True, text=True, check=True, cwd=ROOT
            )
            answered += int(result.stdout)
            sizes.append(process.memory_info().rss / 2**20)
    beside = {"idle": idle, "requests answered": float(answered), "growth": sizes[-1] / sizes[1]}
    against = "what a hosted edge function may use"
    measured = summary(sizes, beside)
    name = "memory of an isolate under load, MB"
    report.add(
        name, Ratio(max(sizes), measured.spread, beside), f"<= {ISOLATE_LIMIT_MB}", against=against
    )
    assert beside["growth"] < 1.5, beside
