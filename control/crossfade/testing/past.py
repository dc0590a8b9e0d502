"""Health, rollbacks, snapshots and audit of a fake project."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from crossfade.core.contract import ErrorCode, Level, Stage
from crossfade.flags.model import Exposure
from crossfade.health.model import HealthSample, Lease, MonitorDriven
from crossfade.health.verdicts import Verdict
from crossfade.people.model import AuditEntry
from crossfade.rollback.model import PlannedChange, RollbackDone, RollbackEntry, Snapshot
from crossfade.runs.model import Look
from crossfade.testing.state import NOW, FakeState, unknown


class FakePast(FakeState):
    """Implements ``Health``, ``Rollbacks``, ``Snapshots`` and ``Audit``."""

    def health_sample(self, pair: str) -> HealthSample:
        """The arranged sample."""
        self._called("health_sample", pair)
        return self.samples[self._pair(pair).name]

    def verify_some(self, pair: str, *, max_rows: int) -> Look:
        """The next scripted answer, else no difference."""
        self._called("verify_some", pair, max_rows)
        return self.looks.popleft() if self.looks else Look(pair, "running")

    def record_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Keep all."""
        self._called("record_exposures", exposures)
        self.exposures.extend(exposures)

    def record_verdicts(self, pair: str, verdicts: Sequence[Verdict]) -> None:
        """Keep the newest."""
        self._called("record_verdicts", pair, verdicts)
        self.verdicts[pair] = tuple(verdicts)

    def latest_verdicts(self, pair: str) -> tuple[Verdict, ...]:
        """The newest."""
        self._called("latest_verdicts", pair)
        return self.verdicts.get(pair, ())

    def rollback(
        self,
        level: Level,
        scope: str,
        *,
        reason: str,
        automatic: bool,
        dry_run: bool,
        expected_step: int | None = None,
    ) -> RollbackDone:
        """Back to shadow, latched when automatic."""
        if expected_step is not None and self._pair(scope).step != expected_step:
            return RollbackDone(level, scope, ())
        self._called(
            "rollback_dry_run" if dry_run else "rollback", level, scope, reason, automatic, dry_run
        )
        if level is Level.FEATURE:
            plan = (PlannedChange("disable_flag", scope),)
        else:
            plan = (PlannedChange("set_stage", scope, self._pair(scope).stage, Stage.SHADOW),)
        if dry_run:
            return RollbackDone(level, scope, plan, dry_run=True)
        self.version += 1
        number = len(self.rollbacks) + 1
        self.rollbacks.append(RollbackEntry(number, NOW, "fake", level, scope, reason, automatic))
        if level is not Level.FEATURE:
            latch = (NOW, reason) if automatic else (None, None)
            self.pairs[scope] = replace(
                self._pair(scope),
                stage=Stage.SHADOW,
                percentage=Decimal(0),
                latched_at=latch[0],
                latch_reason=latch[1],
            )
        return RollbackDone(level, scope, plan, False, 1, number, self.version, NOW)

    def monitor_beat(self, holder: str, *, release: bool = False) -> Lease:
        """The first holder decides until it releases; a lease never runs out here."""
        self._called("monitor_beat", holder, release)
        if release and self.holder == holder:
            self.holder = None
            return Lease(held=False)
        self.holder = self.holder or holder
        return Lease(self.holder == holder, 1, self.holder, NOW)

    def drive_monitor(self, *, enabled: bool) -> MonitorDriven:
        """Noted; nothing watches."""
        self._called("drive_monitor", enabled)
        return MonitorDriven(enabled, "crossfade_monitor", "* * * * *" if enabled else None)

    def list_rollbacks(self, *, limit: int = 20) -> tuple[RollbackEntry, ...]:
        """Newest first."""
        self._called("list_rollbacks", limit)
        return tuple(reversed(self.rollbacks))[:limit]

    def take_snapshot(self, *, reason: str | None) -> Snapshot:
        """Keep one."""
        self._called("take_snapshot", reason)
        self.snapshots.append(Snapshot(len(self.snapshots) + 1, NOW, reason, "fake"))
        return self.snapshots[-1]

    def restore_snapshot(self, snapshot: int, *, reason: str) -> Snapshot:
        """Find it."""
        self._called("restore_snapshot", snapshot, reason)
        for item in self.snapshots:
            if item.id == snapshot:
                return item
        raise unknown(ErrorCode.UNKNOWN_SNAPSHOT, "snapshot", str(snapshot))

    def list_snapshots(self, *, limit: int = 20) -> tuple[Snapshot, ...]:
        """Newest first."""
        self._called("list_snapshots", limit)
        return tuple(reversed(self.snapshots))[:limit]

    def list_audit(self, *, limit: int = 50, name: str | None = None) -> tuple[AuditEntry, ...]:
        """As arranged."""
        self._called("list_audit", limit, name)
        return tuple(item for item in self.audit if name in (None, item.object))[:limit]
