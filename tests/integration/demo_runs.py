"""Short demos for the tests: few rows, few clients, everything that takes time cut short."""

import io
from pathlib import Path

from rich.console import Console

from crossfade.demo import DemoOptions, run_demo
from crossfade.demo.report import Report
from crossfade.demo.traffic import TrafficPlan
from crossfade.demo.world import Pace

SHORT = Pace(
    settle_s=1.5,
    rollback_timeout_s=15.0,
    kill_cycles=4,
    shadow_reads=15,
    shadow_timeout_s=30.0,
    monitor_interval_s=0.5,
)
FEW = TrafficPlan(rate=25.0, v1=10, v2=8, both=4, returning=4, threads=6)


def run_short(
    folder: Path,
    *,
    rows: int = 3000,
    only: frozenset[str] | None = None,
    sabotage_sql: str | None = None,
    pace: Pace = SHORT,
) -> tuple[Report, str]:
    """Run a short demo; return the report and what was shown on the terminal."""
    shown = io.StringIO()
    options = DemoOptions(
        rows=rows,
        out_dir=folder,
        only=only,
        sabotage_sql=sabotage_sql,
        pace=pace,
        plan=FEW,
    )
    report = run_demo(options, Console(file=shown, width=200))
    return report, shown.getvalue()
