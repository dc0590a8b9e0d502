"""What tests of rollouts share: a plan, verdicts, a monitor that lives."""

from __future__ import annotations

import json
from typing import Any

from crossfade.rollouts.plan import RolloutPlan, parse_plan
from tests.sql.conftest import ROOT
from tests.sql.control import Connection, call, create_pair, ready_for_live

SHIPPED: RolloutPlan = parse_plan(
    (ROOT / "control" / "crossfade" / "rollouts" / "shipped" / "five_weeks.toml").read_text()
)


def step(name: str, percentage: float, stage: str = "live", **more: Any) -> dict[str, Any]:
    """One step without a shortest time."""
    return {"name": name, "stage": stage, "percentage": percentage, **more}


def plan(*steps: dict[str, Any], name: str = "test") -> dict[str, Any]:
    """A plan as start_rollout takes it."""
    return {"name": name, "steps": list(steps)}


TWO = plan(step("five", 5), step("half", 50), step("all", 100, approval="manual"))


def beat(db: Connection, holder: str = "m", **more: Any) -> Any:
    """A monitor says that it lives."""
    return call(db, "monitor_beat", holder, **more)


def judge(db: Connection, pair: str = "orders", **verdicts: str) -> None:
    """Store fresh verdicts; R3 passes unless said otherwise."""
    given = {"R3": "PASS", **verdicts}
    rows = [{"rule": rule, "verdict": said} for rule, said in given.items()]
    call(db, "record_verdicts", pair, rows)


def start(db: Connection, given: Any = TWO, pair: str = "orders", speed: float = 1) -> Any:
    """Begin a rollout."""
    return call(db, "start_rollout", pair, json.loads(json.dumps(given)), "test", speed)


def status(db: Connection, pair: str = "orders") -> Any:
    """Where it stands."""
    return call(db, "rollout_status", pair)


def advance(db: Connection, pair: str = "orders", *, automatic: bool = True) -> Any:
    """Try the next step at the pair's present step."""
    return call(db, "advance_rollout", pair, status(db, pair)["step"], automatic)


def control(db: Connection, action: str, *more: Any, pair: str = "orders") -> Any:
    """Hold, resume, approve, abort."""
    return call(db, "control_rollout", pair, action, "test", *more)


def waits(answer: Any) -> list[str]:
    """The codes of what it waits for."""
    return [wait["code"] for wait in answer["waits"]]


def live(db: Connection, percentage: float = 0, **options: Any) -> Connection:
    """A pair in stage live, and a monitor."""
    create_pair(db, stage="live", percentage=percentage, **options)
    ready_for_live(db, "orders")
    call(db, "set_setting", "rollout_cooldown_s", "0", "test")
    beat(db)
    return db
