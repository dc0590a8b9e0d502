"""The alert rules and the Grafana dashboard: what they ask for is what the endpoint offers."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from tests.unit.builders import ROOT
from tests.unit.test_signals import backend, overview, pair

from crossfade.testing import NOW
from crossfade.views.metrics import render
from crossfade.views.overview import RunProgress, Total, Traffic

MONITORING = ROOT / "control" / "monitoring"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")


def promtool(*args: str, text: str | None = None) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *args], input=text, capture_output=True, text=True, cwd=MONITORING
    )
    assert done.returncode == 0, done.stdout + done.stderr


def offered() -> set[str]:
    """Every name the endpoint can answer with."""
    totals = (Total("notes", 2, 1, "ok", 5, {4: 5}),)
    names = re.findall(r"^# TYPE (\S+)", render(overview(pair(), totals=totals)), re.MULTILINE)
    return {*names, *(f"{name}_bucket" for name in names)}


def asked(text: str) -> set[str]:
    return set(re.findall(r"\bcrossfade_[a-z0-9_]+", text))


@needs_promtool
def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", "crossfade.rules.yml")
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_alert_fires_for_its_cause_and_is_silent_without() -> None:
    promtool("test", "rules", "crossfade.rules.test.yml")


@needs_promtool
@pytest.mark.parametrize("up", [True, False])
def test_promtool_accepts_the_metrics(up: bool) -> None:
    traffic = Traffic(backends={1: backend(), 2: backend(errors=9)})
    totals = (Total("notes", 2, 1, "ok", 5, {4: 5}),)
    runs = (RunProgress(7, "verify", "notes", rows_total=9, rows_done=4, progress_at=NOW),)
    found = overview(pair(traffic=traffic, progress=runs), totals=totals)
    promtool("check", "metrics", text=render(found if up else None))


def test_each_of_the_five_alerts_is_tried_both_ways() -> None:
    rules = (MONITORING / "crossfade.rules.yml").read_text("utf-8")
    tests = (MONITORING / "crossfade.rules.test.yml").read_text("utf-8")
    for name in re.findall(r"- alert: (\w+)", rules):
        assert f"alertname: {name}, exp_alerts: []" in tests
        assert re.search(rf"alertname: {name}\n\s+exp_alerts:\n\s+- exp_labels", tests), name


@pytest.mark.parametrize("name", ["crossfade.rules.yml", "grafana-dashboard.json"])
def test_everything_that_is_asked_for_is_offered(name: str) -> None:
    wanted = asked((MONITORING / name).read_text("utf-8"))
    assert len(wanted) >= 7
    assert wanted - offered() == set()


def test_every_panel_of_the_grafana_dashboard_asks_something_and_overlaps_none() -> None:
    board: dict[str, Any] = json.loads((MONITORING / "grafana-dashboard.json").read_text("utf-8"))
    seen: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert all(asked(target["expr"]) for target in panel["targets"]), panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & seen, panel["title"]
        assert place["x"] + place["w"] <= 24
        seen |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
