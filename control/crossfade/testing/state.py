"""What a fake project holds, and how tests arrange and break it."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from crossfade.core.contract import ErrorCode, Event, Stage
from crossfade.core.errors import Blocker, CrossfadeError, RefusedError, refusal
from crossfade.core.values import Key
from crossfade.flags.change_sets import Scheduled
from crossfade.flags.model import Cohort, Exposure, Flag, KillSwitch
from crossfade.flags.share import BackendShare, ShareCause
from crossfade.health.model import HealthSample
from crossfade.health.verdicts import Verdict
from crossfade.pairs.catalog import CarryPlan, Handover, PairPlan, RelabelPlan, TableInfo
from crossfade.pairs.model import ConversionCheck, Judged, PairStatus, RlsCheck
from crossfade.people.model import AuditEntry, Caller, Operator
from crossfade.rollback.model import RollbackEntry, Snapshot
from crossfade.rollouts.plan import RolloutView
from crossfade.runs.model import Batch, Look, Repaired, RepairPlan, Run
from crossfade.views.doctor import CheckRow, Diagnosis
from crossfade.views.overview import Overview

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FakeState:
    """What a fake project holds. Tests set and read it directly."""

    url = "http://fake.invalid"

    def __init__(self, *, settings: Mapping[str, object] | None = None) -> None:
        self.settings: dict[str, object] = dict(settings or {})
        self.flags: dict[str, Flag] = {}
        self.kill_switches: dict[str, KillSwitch] = {}
        self.pairs: dict[str, PairStatus] = {}
        self.generators: dict[str, str] = {}
        self.cohorts: dict[str, Cohort] = {}
        self.samples: dict[str, HealthSample] = {}
        self.verdicts: dict[str, tuple[Verdict, ...]] = {}
        self.exposures: list[Exposure] = []
        self.runs: dict[int, Run] = {}
        self.script: deque[Batch] = deque()
        self.driven: set[int] = set()
        self.looks: deque[Look] = deque()
        self.parities: deque[RlsCheck] = deque()
        self.checks: deque[ConversionCheck] = deque()
        self.repairs: deque[Repaired] = deque()
        self.repair_plan = RepairPlan()
        self.tables: dict[str, TableInfo] = {}
        self.plans: dict[str, PairPlan] = {}
        self.handovers: dict[str, Handover] = {}
        self.carries: deque[CarryPlan] = deque()
        self.relabels: dict[str, RelabelPlan] = {}
        self.judged: dict[str, Judged] = {}
        self.keys: tuple[Key, ...] = ()
        self.snapshots: list[Snapshot] = []
        self.shown: Overview | None = None
        self.rollbacks: list[RollbackEntry] = []
        self.audit: list[AuditEntry] = []
        self.check_rows: dict[str, tuple[CheckRow, ...]] = {}
        self.diagnosis = Diagnosis(NOW, 170006, "1min", "0", True, True, True, 1)
        self.served: dict[int, datetime] = {}
        self.schedules: dict[int, Scheduled] = {}
        self.operators: dict[str, Operator] = {}
        self.caller = Caller("fake")
        self.broadcasts: list[tuple[Event, Mapping[str, str | int | bool]]] = []
        self.calls: list[str] = []
        self.given: list[tuple[object, ...]] = []
        self.version = 1
        self.holder: str | None = None
        self.rollouts: dict[str, RolloutView] = {}
        self.batch_rows = 100
        self._faults: defaultdict[str, deque[CrossfadeError]] = defaultdict(deque)

    # Arranging -----------------------------------------------------------------------------------

    def fail(self, method: str, error: CrossfadeError, *, times: int = 1) -> None:
        """Make the next ``times`` calls of ``method`` raise ``error``."""
        self._faults[method].extend([error] * times)

    def add_pair(self, pair: PairStatus, cohort: Cohort | None = None) -> None:
        """Register a pair as it is given."""
        self.pairs[pair.name] = pair
        self.cohorts[pair.name] = cohort or Cohort(pair.percentage, pair.name, pair=pair.name)

    def changed(self) -> tuple[str, ...]:
        """The calls that changed something."""
        reads = (
            *("check_schema", "read_", "explain_", "pair_status", "list_", "health_", "latest_"),
            *("apply_due_changes", "last_served", "monitor_beat", "overview", "rollout_status"),
            *("diagnose", "installed_release", "run_check", "show_", "whoami"),
            *("carry_plan", "describe_", "handover_plan", "plan_", "relabel_plan", "sample_"),
        )
        return tuple(call for call in self.calls if not call.startswith(reads))

    def _called(self, method: str, *given: object) -> None:
        self.calls.append(method)
        self.given.append(given)
        if self._faults[method]:
            raise self._faults[method].popleft()

    def _pair(self, name: str) -> PairStatus:
        if name not in self.pairs:
            raise unknown(ErrorCode.UNKNOWN_PAIR, "pair", name)
        found = self.pairs[name]
        return replace(found, backend=self._backend(found))

    def _backend(self, pair: PairStatus) -> BackendShare:
        """The share by stage, percentage and switches; flags and the mirror hold nothing down."""
        causes = [
            ShareCause("kill_switch", f"kill switch {switch.name} is engaged")
            for switch in self.kill_switches.values()
            if switch.engaged and (switch.fences or switch.overrides_all)
            if switch.overrides_all or switch.pair in (None, pair.name)
            if pair.stage.rank < Stage.COMPLETE.rank
        ]
        share = Decimal(100) if pair.stage.rank > Stage.LIVE.rank else pair.percentage
        if pair.stage.rank < Stage.LIVE.rank or causes:
            share = Decimal(0)
        return BackendShare(share, pair.percentage, tuple(causes))

    def _check_stops(self, name: str) -> None:
        for stop in self._pair(name).backend.stops:  # type: ignore[union-attr]
            raise refusal(ErrorCode.STOPPED, f'Cannot go forward with "{name}": {stop.message}')


def unknown(code: ErrorCode, kind: str, name: str) -> RefusedError:
    """What the database says about a name it does not have."""
    return refusal(code, f'Unknown {kind} "{name}"')


def refused_stage(pair: str, stage: Stage, blockers: tuple[Blocker, ...]) -> RefusedError:
    """What the database says about a stage whose preconditions are not met."""
    text = "; ".join(blocker.message for blocker in blockers)
    return refusal(
        ErrorCode.STAGE_PRECONDITION, f'Cannot set "{pair}" to {stage}: {text}', blockers=blockers
    )
