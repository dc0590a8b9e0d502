"""Is anything wrong, and what happens next: an overview -> sentences for people. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from crossfade.core.contract import Mode, Outcome, RunState, Stage
from crossfade.health.thresholds import Thresholds, has_thresholds, read_thresholds
from crossfade.rollouts.advance import may_advance
from crossfade.views.overview import Overview, PairOverview

FRESH = timedelta(minutes=5)
"""A verdict older than this says nothing about now."""
RECENT = timedelta(hours=1)
"""A rollback younger than this is news."""
SERVING = (Stage.LIVE, Stage.RAMPDOWN)
_OF_TRAFFIC = frozenset({"R1", "R1s", "R1k", "R2", "R4", "R5", "R10"})


class Concern(StrEnum):
    """How bad. Listed from best to worst."""

    FINE = "fine"
    ATTENTION = "attention"
    WRONG = "wrong"

    @property
    def rank(self) -> int:
        """0 for ``FINE``."""
        return list(Concern).index(self)


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that needs a person. ``pair`` is empty when it is about the whole project."""

    concern: Concern
    text: str
    way_out: str = ""
    pair: str = ""
    since: datetime | None = None


def find_signals(overview: Overview) -> tuple[Signal, ...]:
    """Everything that needs a person, the worst first."""
    limits = _limits(overview)
    found = [*_switches(overview), *_monitor(overview)]
    for pair in overview.pairs:
        found.extend(_pair(pair, overview, limits))
    return tuple(sorted(found, key=lambda signal: -signal.concern.rank))


def worst(signals: tuple[Signal, ...]) -> Concern:
    """The worst concern; fine when there is none."""
    return max((s.concern for s in signals), key=lambda c: c.rank, default=Concern.FINE)


def _limits(overview: Overview) -> Thresholds | None:
    # A database of an older release may lack settings; then only rows speak.
    return read_thresholds(overview.settings) if has_thresholds(overview.settings) else None


def _switches(overview: Overview) -> Iterator[Signal]:
    for switch in overview.kill_switches:
        if switch.engaged:
            concern = Concern.WRONG if switch.fences else Concern.ATTENTION
            why = f": {switch.reason}" if switch.reason else ""
            by = f" by {switch.engaged_by}" if switch.engaged_by else ""
            yield Signal(
                concern,
                f"Kill switch {switch.name} is engaged{by}{why}",
                f'crossfade kill release {switch.name} --reason "..."',
                switch.pair or "",
                switch.engaged_at,
            )


def _monitor(overview: Overview) -> Iterator[Signal]:
    serving = [pair.name for pair in overview.pairs if pair.stage in SERVING]
    limits = _limits(overview)
    beat = overview.monitor.heartbeat_at
    dead_s = limits.r12_dead_s if limits else 60
    if serving and (beat is None or (overview.at - beat).total_seconds() > dead_s):
        last = "has run" if beat is None else f"since {beat:%H:%M:%S}Z"
        text = f"Nobody watches {', '.join(serving)}: no monitor {last}"
        yield Signal(Concern.ATTENTION, text, "crossfade monitor run", since=beat)


def _pair(pair: PairOverview, overview: Overview, limits: Thresholds | None) -> Iterator[Signal]:
    if pair.problem:
        text = f"{pair.name}: its status cannot be read: {pair.problem}"
        yield Signal(Concern.WRONG, text, "crossfade pair check", pair.name)
    if pair.latched_at:
        yield Signal(
            Concern.WRONG,
            f"{pair.name} was rolled back automatically: {pair.latch_reason}",
            f"Find the cause, then: crossfade rollout rearm {pair.name}",
            pair.name,
            pair.latched_at,
        )
    else:
        yield from _rollback(pair, overview)
    if limits:
        yield from _traffic(pair, limits)
        yield from _runs(pair, overview, limits)
    yield from _verdicts(pair, overview)
    for count, what in (
        (pair.open_failures, "mirror failure"),
        (pair.open_mismatches, "mismatch"),
    ):
        if count:
            many = what if count == 1 else {"mismatch": "mismatches"}.get(what, f"{what}s")
            text = f"{pair.name} has {count} open {many}"
            yield Signal(Concern.ATTENTION, text, f"crossfade repair {pair.name}", pair.name)


def _rollback(pair: PairOverview, overview: Overview) -> Iterator[Signal]:
    for note in overview.rollbacks.newest:
        if note.scope in (pair.name, "*") and overview.at - note.at < RECENT:
            text = f"{pair.name} was rolled back ({note.level}) by {note.actor}: {note.reason}"
            yield Signal(Concern.ATTENTION, text, "", pair.name, note.at)
            return


def _traffic(pair: PairOverview, limits: Thresholds) -> Iterator[Signal]:
    # What V2 did before it was taken out of service is no trouble of now.
    for version in (2, 1) if pair.stage in SERVING else (1,):
        backend = pair.traffic.backend(version)
        rate = backend.error_rate
        if rate is None or backend.requests < limits.r2_min_requests or rate < limits.r2_error_rate:
            continue
        concern = Concern.WRONG if rate >= limits.r1_error_rate else Concern.ATTENTION
        text = (
            f"{pair.name}: {rate:.1%} of {backend.requests} requests on V{version} failed in the"
            " last minutes"
        )
        way_out = f"crossfade rollback run --level COMPLETE --pair {pair.name}"
        yield Signal(concern, text, way_out if version == 2 else "", pair.name)
    ratio = slowdown(pair, limits) if pair.stage in SERVING else None
    if ratio is not None and ratio >= limits.r5_p95_ratio:
        text = f"{pair.name}: V2 is {ratio:.1f} times as slow as V1 (p95)"
        yield Signal(Concern.ATTENTION, text, "", pair.name)


def slowdown(pair: PairOverview, limits: Thresholds) -> float | None:
    """Return p95 of V2 over p95 of V1, or over the baseline when V1 has too few requests."""
    v1, v2 = pair.traffic.backend(1), pair.traffic.backend(2)
    usual = v1.p95_ms if v1.requests >= limits.r5_min_requests else None
    usual = usual or (pair.baseline.p95_ms if pair.baseline else None)
    if not usual or v2.p95_ms is None or v2.requests < limits.r5_min_requests:
        return None
    return v2.p95_ms / usual


def _runs(pair: PairOverview, overview: Overview, limits: Thresholds) -> Iterator[Signal]:
    for run in pair.progress:
        since = run.progress_at or run.started_at
        if run.state is not RunState.RUNNING or since is None:
            continue
        idle_s = (overview.at - since).total_seconds()
        if idle_s < limits.r7_warn_s:
            continue
        concern = Concern.WRONG if idle_s >= limits.r7_stall_s else Concern.ATTENTION
        why = f": {overview.throttle}" if overview.throttle else ""
        text = f"{pair.name}: {run.kind} {run.id} has not moved for {_hours(idle_s)}{why}"
        yield Signal(concern, text, f"crossfade {run.kind} run {pair.name}", pair.name, since)


def _verdicts(pair: PairOverview, overview: Overview) -> Iterator[Signal]:
    for verdict in pair.verdicts:
        # R3 is the gate of the next step: not yet is no trouble. R12 is told by the heartbeat.
        skipped = verdict.rule in ("R3", "R12") or verdict.mode in (Mode.OFF, Mode.DRY_RUN)
        if skipped or verdict.verdict is Outcome.PASS or pair.stage is Stage.OFF:
            continue
        if verdict.rule in _OF_TRAFFIC and pair.stage not in SERVING:
            continue
        if verdict.at is None or overview.at - verdict.at > FRESH:
            continue
        concern = Concern.WRONG if verdict.verdict is Outcome.FAIL else Concern.ATTENTION
        text = f"{pair.name}: rule {verdict.rule} says {verdict.verdict}: {verdict.message}"
        yield Signal(concern, text.removesuffix(": "), "", pair.name, verdict.breach_since)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


# What happens next -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NextStep:
    """Where a pair goes next. ``waits`` says what is missing; empty: it may go now."""

    target: str
    waits: tuple[str, ...] = ()
    command: str = ""
    by_itself: bool = False


def next_step(pair: PairOverview, overview: Overview) -> NextStep:
    """What comes next for a pair, and what stands against it."""
    if pair.problem:
        return NextStep("unknown", (pair.problem,))
    if pair.latched_at:
        command = f'crossfade rollout rearm {pair.name} --reason "..."'
        return NextStep("re-arm", (f"rolled back automatically: {pair.latch_reason}",), command)
    plan = pair.rollout
    if plan and plan.rollout and plan.is_active:
        target = plan.next.name if plan.next else "the end of the plan"
        waits = tuple(wait.message for wait in plan.waits)
        return NextStep(target, waits, f"crossfade rollout status {pair.name}", by_itself=True)
    limits = _limits(overview)
    if pair.stage is Stage.LIVE and pair.percentage < 100 and limits:
        automatic = [
            r.at for r in overview.rollbacks.newest if r.automatic and r.scope in (pair.name, "*")
        ]
        advance = may_advance(
            pair,
            pair.verdicts,
            limits,
            now=overview.at,
            rolled_back_at=max(automatic, default=None),
        )
        if advance.target is not None:
            command = f"crossfade rollout advance {pair.name}"
            return NextStep(f"{advance.target.normalize():f} % on V2", advance.waits, command)
    if pair.next_stage is None:
        return NextStep("nothing: the migration is over")
    command = f'crossfade stage set {pair.name} {pair.next_stage} --reason "..."'
    stops = pair.backend.stops if pair.backend else ()
    waits = (*(stop.message for stop in stops), *(blocker.message for blocker in pair.blockers))
    return NextStep(f"stage {pair.next_stage}", waits, command)
