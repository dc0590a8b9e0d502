"""The whole demo on few rows: it keeps every promise, says so, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from crossfade.demo.report import Report
from tests.integration.demo_runs import run_short

ROWS = 3000


@pytest.fixture(scope="module")
def finished(fresh_dir: Callable[[str], Path]) -> tuple[Report, Path]:
    """A finished demo and its folder."""
    folder = fresh_dir("demo")
    report, shown = run_short(folder, rows=ROWS)
    print(shown)
    return report, folder


def test_the_demo_keeps_every_promise(finished: tuple[Report, Path]) -> None:
    report, _ = finished
    assert report.stopped_because is None
    assert report.clients.samples == []
    assert report.proof is not None
    assert report.proof.findings == ()
    assert report.broken == []


def test_the_report_has_what_was_asked_for(finished: tuple[Report, Path]) -> None:
    _, folder = finished
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert values["history_rows"] == ROWS
    for name in (
        "lost",
        "duplicated",
        "mismatches",
        "v1_client_errors",
        "v2_writes_after_kill",
        "zombies",
        "history_changed",
    ):
        assert values[name] == 0, name
    for name in (
        "client_writes_acknowledged",
        "auto_rollback_seconds",
        "backfill_rows_per_s",
        "verify_rows_per_s",
        "duration_s",
        "requests_per_s",
        "direct_v2_writes",
    ):
        assert values[name] > 0, name
    assert 0 <= values["kill_to_effect_ms_p50"] <= values["kill_to_effect_ms_p99"]


def test_nothing_was_proved_by_accident(finished: tuple[Report, Path]) -> None:
    """What the promises are about must really have happened."""
    measured = finished[0].measured
    assert measured.races > 0
    assert measured.converters_checked is not None
    assert measured.converters_checked >= ROWS
    assert (measured.shadow_compared or 0) > 0
    assert (measured.stale_isolate_believed or 0) > 0
    assert (measured.stale_writes_fenced or 0) > 0
    assert measured.auto_rollback_level == "EMERGENCY"
    assert finished[0].clients.fallbacks > 0


def test_the_demo_draws_a_picture_and_removes_its_stack(finished: tuple[Report, Path]) -> None:
    _, folder = finished
    assert (folder / "timeline.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert list(folder.glob("stack-*")) == []
    assert _processes_of(folder) == []


def test_ctrl_c_leaves_nothing_running(stack_root: Path) -> None:
    folder = stack_root / "demo-interrupted"
    command = [sys.executable, "-m", "crossfade", "demo", "--rows", "2000", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        _until(lambda: (folder / "journal.jsonl").exists() and _journal_lines(folder) > 5)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode not in (0, -signal.SIGKILL)
    assert _processes_of(folder) == []
    assert list(folder.glob("stack-*")) == []


def _journal_lines(folder: Path) -> int:
    return len((folder / "journal.jsonl").read_text(encoding="utf-8").splitlines())


def _until(met: object, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if callable(met) and met():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def _processes_of(folder: Path) -> list[str]:
    """Command lines of other processes that name the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found
