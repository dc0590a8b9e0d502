"""Named builders for records, so that a test says only what matters to it."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from crossfade.core.contract import RunState, Stage
from crossfade.flags.model import Flag, KillSwitch
from crossfade.health.model import BackendSample, BackendWindow, HealthSample
from crossfade.health.thresholds import Thresholds, read_thresholds
from crossfade.pairs.model import PairStatus
from crossfade.runs.model import Batch, Run
from crossfade.testing import NOW, FakeGateway

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
_SEED = re.compile(r"^\s*\('(\w+)', '((?:[^']|'')*)',", re.MULTILINE)


def seeded_settings() -> dict[str, object]:
    """The settings as the schema seeds them, which is the only place that has them."""
    text = (ROOT / "sql/schema/tables/settings.sql").read_text("utf-8")
    return {name: json.loads(value.replace("''", "'")) for name, value in _SEED.findall(text)}


def thresholds(**changes: object) -> Thresholds:
    return read_thresholds({**seeded_settings(), **changes})


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def window(
    requests: int = 0, errors: int = 0, *, p50: float = 100, p95: float = 200
) -> BackendSample:
    """A window whose recent part is the whole of it."""
    recent = BackendWindow(requests, errors, errors / requests if requests else None, p50, p95)
    return BackendSample(requests, errors, recent.error_rate, p50, p95, recent, recent)


def sample(
    seconds: float = 0,
    *,
    v1: BackendSample | None = None,
    v2: BackendSample | None = None,
    stage: Stage = Stage.LIVE,
    percentage: float = 25,
    **more: object,
) -> HealthSample:
    """A healthy pair that is live at 25 %, ``seconds`` after NOW; the step began an hour before."""
    base = HealthSample(
        pair="notes",
        at=at(seconds),
        stage=stage,
        percentage=Decimal(str(percentage)),
        step=3,
        step_started_at=at(-3600),
        backends={1: v1 or window(300), 2: v2 or window(100)},
        newest_request_at=at(seconds - 1),
    )
    return replace(base, **more)  # type: ignore[arg-type]


def run_of(done: int = 0, *, total: int = 1000, state: RunState = RunState.RUNNING) -> Run:
    return Run(1, "backfill", "notes", state=state, rows_total=total, rows_done=done)


def batch(done: int, *, state: RunState = RunState.RUNNING, reason: str | None = None) -> Batch:
    rows = 100 if state is RunState.RUNNING else 0
    return Batch(run_of(done, state=state), state, rows, rows, reason=reason)


def pair(stage: Stage = Stage.LIVE, **changes: object) -> PairStatus:
    base = PairStatus("notes", "public.notes", "public.notes_v2", stage, mirror="both")
    return replace(base, **changes)  # type: ignore[arg-type]


def project() -> FakeGateway:
    """A project with one pair in stage live, two flags and two kill switches."""
    fake = FakeGateway(settings=seeded_settings())
    fake.add_pair(pair(percentage=Decimal(5), step=3, step_started_at=at(-7200)))
    fake.samples["notes"] = sample(percentage=5)
    for flag in (
        Flag("enable_caching", enabled=True, percentage=Decimal(25), cohort_key="enable_caching"),
        Flag("use_advanced_messages", enabled=True, killed_by=("disable_v2_messages",)),
    ):
        fake.flags[flag.name] = flag
    for switch in (
        KillSwitch("disable_v2_messages", fences=True),
        KillSwitch("emergency_rollback", fences=True, overrides_all=True),
    ):
        fake.kill_switches[switch.name] = switch
    return fake
