"""The overview as Prometheus metrics. Pure: an overview, or None when unreachable -> text."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from crossfade.core.contract import Mode, RunState, Stage
from crossfade.health.thresholds import has_thresholds, read_thresholds
from crossfade.health.verdicts import Verdict
from crossfade.views.overview import Overview, PairOverview
from crossfade.views.signals import find_signals, slowdown

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_QUANTILES = (("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))


def render(overview: Overview | None) -> str:
    """Prometheus text. Without an overview only ``crossfade_up 0``: no number may look current."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(overview))
    return generate_latest(registry).decode()


class _Collected(Collector):
    def __init__(self, overview: Overview | None) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("crossfade_up", "1 when the project could be read, else 0")
        up.add_metric([], 0 if self._overview is None else 1)
        yield up
        if self._overview is not None:
            yield from _project(self._overview)
            yield from _pairs(self._overview)
            yield from _windows(self._overview)
            yield from _runs(self._overview)
            yield from _rules(self._overview)
            yield from _totals(self._overview)


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"crossfade_{name}", text, labels=labels)


def _project(overview: Overview) -> Iterator[Metric]:
    clock = _gauge("database_time_seconds", "Clock of the database, Unix time", [])
    clock.add_metric([], overview.at.timestamp())
    yield clock
    version = _gauge("flags_version", "Counter of changes of control rows", [])
    version.add_metric([], overview.flags_version)
    yield version
    rollbacks = CounterMetricFamily("crossfade_rollbacks", "Rollbacks ever made")
    rollbacks.add_metric([], overview.rollbacks.count)
    yield rollbacks
    beat = _gauge("monitor_heartbeat_age_seconds", "Time since the monitor's last heartbeat", [])
    if overview.monitor.heartbeat_at:
        beat.add_metric([], (overview.at - overview.monitor.heartbeat_at).total_seconds())
    yield beat
    switches = _gauge("kill_switch_engaged", "1 while a kill switch is engaged", ["name"])
    for switch in overview.kill_switches:
        switches.add_metric([switch.name], int(switch.engaged))
    yield switches
    signals = _gauge("signals", "Things that need a person, as status shows them", ["concern"])
    found = find_signals(overview)
    for concern in ("attention", "wrong"):
        signals.add_metric([concern], sum(signal.concern == concern for signal in found))
    yield signals
    adoption = _gauge(
        "flag_answers", "Answers of a flag in the window of the overview", ["flag", "variant"]
    )
    enabled = _gauge("flag_enabled", "1 while a flag is enabled", ["flag"])
    for flag in overview.flags:
        enabled.add_metric([flag.name], int(flag.enabled))
        adoption.add_metric([flag.name, "on"], flag.on)
        adoption.add_metric([flag.name, "off"], flag.off)
    yield enabled
    yield adoption


def _pairs(overview: Overview) -> Iterator[Metric]:
    stage = _gauge("stage", "1 for the stage a pair is in", ["pair", "stage"])
    share = _gauge("v2_share_percentage", "Share of units that V2 serves now, 0 to 100", ["pair"])
    percentage = _gauge("cohort_percentage", "What the cohort is set to, in force or not", ["pair"])
    latched = _gauge("latched", "1 after an automatic rollback, until re-armed", ["pair"])
    failures = _gauge("open_mirror_failures", "Writes that reached one table only", ["pair"])
    mismatches = _gauge("open_mismatches", "Rows found to differ", ["pair"])
    blockers = _gauge("blockers", "What keeps a pair from its next stage", ["pair"])
    readable = _gauge("pair_readable", "0 when the status of a pair cannot be read", ["pair"])
    for pair in overview.pairs:
        for known in Stage:
            stage.add_metric([pair.name, known.value], int(pair.stage is known))
        percentage.add_metric([pair.name], float(pair.percentage))
        if pair.backend is not None:
            share.add_metric([pair.name], float(pair.backend.share_pct))
        latched.add_metric([pair.name], int(pair.latched_at is not None))
        readable.add_metric([pair.name], int(pair.problem is None))
        if pair.problem is None:
            failures.add_metric([pair.name], pair.open_failures)
            mismatches.add_metric([pair.name], pair.open_mismatches)
            blockers.add_metric([pair.name], len(pair.blockers))
    yield from (stage, share, percentage, latched, failures, mismatches, blockers, readable)


def _windows(overview: Overview) -> Iterator[Metric]:
    both = ["pair", "backend"]
    requests = _gauge("window_requests", "Requests of the last minutes", both)
    rate = _gauge("error_ratio", "Share of them that failed or fell back, 0 to 1", both)
    latency = {
        field: _gauge(f"latency_{name}_seconds", f"Latency of them, {name}", both)
        for name, field in _QUANTILES
    }
    ratio = _gauge("p95_ratio", "p95 of V2 over p95 of V1, or over the baseline", ["pair"])
    known = has_thresholds(overview.settings)
    for pair in overview.pairs:
        for version in (1, 2):
            backend, labels = pair.traffic.backend(version), [pair.name, str(version)]
            requests.add_metric(labels, backend.requests)
            # Without requests there is no rate: 0 would look healthy.
            if backend.error_rate is not None:
                rate.add_metric(labels, backend.error_rate)
            for field, gauge in latency.items():
                value = getattr(backend, field)
                if value is not None:
                    gauge.add_metric(labels, value / 1000)
        slower = slowdown(pair, read_thresholds(overview.settings)) if known else None
        if slower is not None:
            ratio.add_metric([pair.name], slower)
    yield from (requests, rate, *latency.values(), ratio)


def _runs(overview: Overview) -> Iterator[Metric]:
    which = ["pair", "kind"]
    running = _gauge("run_running", "1 while a backfill or verification runs", which)
    rows = _gauge("run_rows", "Rows done", which)
    total = _gauge("run_rows_expected", "Rows there are, estimated at the start", which)
    speed = _gauge("run_rows_per_second", "Rows a second since the run began", which)
    idle = _gauge("run_idle_seconds", "Time since a running run last moved", which)
    for pair in overview.pairs:
        for run in pair.progress:
            labels = [pair.name, run.kind]
            is_running = run.state is RunState.RUNNING
            running.add_metric(labels, int(is_running))
            rows.add_metric(labels, run.rows_done)
            total.add_metric(labels, run.rows_total or 0)
            if run.rows_per_s is not None:
                speed.add_metric(labels, run.rows_per_s)
            since = run.progress_at or run.started_at
            if is_running and since:
                idle.add_metric(labels, (overview.at - since).total_seconds())
    yield from (running, rows, total, speed, idle)


def _rules(overview: Overview) -> Iterator[Metric]:
    which = ["pair", "rule", "mode"]
    rank = _gauge("rule_verdict", "0 PASS, 1 HOLD, 2 ERROR, 3 FAIL; see its age", which)
    age = _gauge("rule_age_seconds", "Time since the rule was evaluated", which)
    value = _gauge("rule_value", "What the rule looked at", which)
    bound = _gauge("rule_threshold", "What it compares with", which)
    for pair, verdict in _verdicts(overview):
        labels = [pair.name, verdict.rule, verdict.mode.value]
        rank.add_metric(labels, verdict.verdict.rank)
        if verdict.at:
            age.add_metric(labels, (overview.at - verdict.at).total_seconds())
        if verdict.value is not None:
            value.add_metric(labels, verdict.value)
        if verdict.threshold is not None:
            bound.add_metric(labels, verdict.threshold)
    yield from (rank, age, value, bound)


def _verdicts(overview: Overview) -> Iterator[tuple[PairOverview, Verdict]]:
    for pair in overview.pairs:
        for verdict in pair.verdicts:
            if verdict.mode is not Mode.OFF:
                yield pair, verdict


def _totals(overview: Overview) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "crossfade_requests",
        "Requests since the beginning",
        labels=["pair", "backend", "wire", "outcome"],
    )
    durations = HistogramMetricFamily(
        "crossfade_request_duration_seconds",
        "Latency of requests that were ok, failed or fell back",
        labels=["pair", "backend"],
    )
    histograms: dict[tuple[str, str], Counter[int]] = {}
    for total in overview.totals:
        key = (total.pair, str(total.backend_version))
        requests.add_metric([*key, str(total.wire_version), total.outcome], total.requests)
        if total.outcome in ("ok", "error", "fallback"):
            histograms.setdefault(key, Counter()).update(total.histogram)
    for key, counts in histograms.items():
        durations.add_metric(list(key), buckets=_buckets(counts), sum_value=None)
    yield from (requests, durations)


def _buckets(counts: Counter[int]) -> list[tuple[str, float]]:
    """Cumulative counts at 1, 2, 4, ... ms. The upper bound of bucket i is 2^(i/4) ms."""
    edges = [
        (f"{2 ** (top / 4) / 1000:g}", sum(n for i, n in counts.items() if i <= top))
        for top in range(0, 77, 4)
    ]
    return [*edges, ("+Inf", counts.total())]
