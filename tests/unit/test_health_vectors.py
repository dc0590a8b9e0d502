"""The rules that SQL has as well: Python decides as the vectors say."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.builders import VECTORS, thresholds

from crossfade.core.contract import Outcome
from crossfade.gateway.rows import parse
from crossfade.health import judgement
from crossfade.health.model import HealthSample
from crossfade.health.verdicts import Verdict
from crossfade.testing import NOW

TOPIC = json.loads((VECTORS / "health_rules.json").read_text("utf-8"))
RULES = ("R1", "R1s", "R1k", "R12")


def sample_of(given: Mapping[str, Any]) -> HealthSample:
    row = sample_row(given, lambda seconds: (NOW + timedelta(seconds=seconds)).isoformat())
    return parse(HealthSample, row)


def sample_row(given: Mapping[str, Any], time: Any) -> dict[str, Any]:
    """The vector's input as health_sample answers it."""
    wanted = {**TOPIC["defaults"], **given}
    rollout = wanted["rollout"]
    return {
        "pair": "notes",
        "at": time(wanted["at"]),
        "stage": wanted["stage"],
        "percentage": 25,
        "step": 3,
        "step_started_at": time(0),
        "window_from": time(0),
        "backends": {
            version: {"requests": wanted[key][0], "errors": wanted[key][1]}
            for version, key in (("1", "v1"), ("2", "v2"))
        },
        "streak": wanted["streak"],
        "heartbeat_at": None if wanted["heartbeat"] is None else time(wanted["heartbeat"]),
        "newest_request_at": time(wanted["at"]),
        "rollout": rollout and {"id": 1, "plan": "p", "state": rollout},
    }


def previous_of(given: Mapping[str, Any]) -> list[Verdict]:
    return [
        Verdict(
            rule,
            Outcome.HOLD,
            at=NOW + timedelta(seconds=seen["at"]),
            breach_since=None if seen["since"] is None else NOW + timedelta(seconds=seen["since"]),
        )
        for rule, seen in given.get("previous", {}).items()
    ]


def case_id(case: Mapping[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", TOPIC["cases"], ids=case_id)
def test_health_rules(case: Mapping[str, Any]) -> None:
    given = case["input"]
    limits = thresholds(**given.get("settings", {}))
    verdicts = judgement.evaluate(sample_of(given), previous_of(given), limits)
    found = {item.rule: item for item in verdicts if item.rule in RULES}
    for rule in RULES:
        wanted = case["expect"].get(rule, {"verdict": "PASS"})
        if wanted is None:
            assert rule not in found
            continue
        for name, value in wanted.items():
            assert said(found[rule], name) == pytest.approx(value, abs=1e-8), (rule, name)


def said(verdict: Verdict, name: str) -> object:
    if name == "since":
        since = verdict.breach_since
        return None if since is None else (since - NOW).total_seconds()
    if name == "shared_cause":
        return verdict.details["shared_cause"]
    value = getattr(verdict, name)
    return getattr(value, "value", value)
