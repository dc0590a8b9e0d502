"""Pairs and runs of a fake project."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from crossfade import __version__
from crossfade.core.contract import (
    Direction,
    ErrorCode,
    FollowerOnly,
    MirrorMode,
    PartitionRemoval,
    RunState,
    Stage,
)
from crossfade.core.errors import refusal
from crossfade.core.values import Key
from crossfade.pairs.catalog import CarryPlan, Handover, PairPlan, RelabelPlan, TableInfo
from crossfade.pairs.model import (
    ConversionCheck,
    GroupMoved,
    GroupPair,
    GroupStatus,
    Ignored,
    Judged,
    MirrorChanged,
    PairMoved,
    PairSpec,
    PairStatus,
    PairWrites,
    PartitionRemoved,
    Refreshed,
    Registered,
    RlsCheck,
    StageChanged,
)
from crossfade.runs.model import Batch, Driven, Repaired, RepairPlan, Run, Started
from crossfade.testing.state import FakeState, refused_stage


class FakeWork(FakeState):
    """Implements ``Runs`` and ``Pairs``."""

    def start_backfill(self, pair: str, *, direction: Direction, ranges: int) -> Started:
        """Start or find."""
        self._called("start_backfill", pair, direction, ranges)
        return self._start(pair, "backfill", direction)

    def start_verify(self, pair: str, *, ranges: int) -> Started:
        """Start or find."""
        self._called("start_verify", pair, ranges)
        return self._start(pair, "verify", Direction.V1_TO_V2)

    def _start(self, pair: str, kind: str, direction: Direction) -> Started:
        self._pair(pair)
        for run in self.runs.values():
            if (run.pair, run.kind) == (pair, kind) and not run.state.is_over:
                return Started(run, already=True)
        run = Run(len(self.runs) + 1, kind, pair, direction, rows_total=1000)
        self.runs[run.id] = run
        return Started(run)

    def backfill_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """The next scripted answer, else ``batch_rows`` rows."""
        self._called("backfill_batch", run, target_ms)
        return self._batch(run)

    def verify_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """The next scripted answer, else ``batch_rows`` rows."""
        self._called("verify_batch", run, target_ms)
        return self._batch(run)

    def _batch(self, number: int) -> Batch:
        if self.script:
            return self.script.popleft()
        run = self.runs[number]
        if run.state is not RunState.RUNNING:
            return Batch(run, run.state)
        rows = min(self.batch_rows, (run.rows_total or 0) - run.rows_done)
        done = run.rows_done + rows
        over = done >= (run.rows_total or 0)
        state = RunState.FINISHED if over else RunState.RUNNING
        run = replace(run, rows_done=done, rows_written=done, batches=run.batches + 1, state=state)
        self.runs[number] = run
        return Batch(run, state, rows_read=rows, rows_written=rows)

    def control_run(self, run: int, action: str, *, reason: str | None) -> Run:
        """Pause, resume or cancel."""
        self._called("control_run", run, action, reason)
        states = {
            "pause": RunState.PAUSED,
            "resume": RunState.RUNNING,
            "cancel": RunState.CANCELLED,
        }
        self.runs[run] = replace(self.runs[run], state=states[action], reason=reason)
        return self.runs[run]

    def run_status(self, run: int) -> Run:
        """As it stands."""
        self._called("run_status", run)
        return self.runs[run]

    def drive_run(self, run: int, *, enabled: bool) -> Driven:
        """Noted in ``driven``; the batches are for the test to do."""
        self._called("drive_run", run, enabled)
        (self.driven.add if enabled else self.driven.discard)(run)
        schedule = "5 seconds" if enabled else None
        return Driven(self.runs[run], enabled, f"crossfade_run_{run}", schedule)

    def list_runs(self, pair: str | None = None, *, kind: str | None = None) -> tuple[Run, ...]:
        """All of them."""
        self._called("list_runs", pair, kind)
        found = [r for r in self.runs.values() if pair in (None, r.pair) and kind in (None, r.kind)]
        return tuple(reversed(found))

    def repair(
        self,
        pair: str,
        *,
        max_rows: int,
        reason: str | None,
        follower_only: FollowerOnly = FollowerOnly.KEEP,
    ) -> Repaired:
        """The next scripted answer, else nothing to do."""
        self._called("repair", pair, max_rows, reason, follower_only)
        return self.repairs.popleft() if self.repairs else Repaired(0, 0)

    def plan_repair(self, pair: str, *, max_rows: int) -> RepairPlan:
        """The plan the test put there, else nothing to do."""
        self._called("plan_repair", pair, max_rows)
        return self.repair_plan

    def pair_status(self, pair: str | None = None) -> tuple[PairStatus, ...]:
        """With the runs that are not over."""
        self._called("pair_status", pair)
        names = [pair] if pair else sorted(self.pairs)
        return tuple(
            replace(
                self._pair(name),
                runs=tuple(r for r in self.runs.values() if r.pair == name and not r.state.is_over),
            )
            for name in names
        )

    def register_pair(self, spec: PairSpec) -> Registered:
        """Register in stage off."""
        self._called("register_pair", spec)
        self.add_pair(PairStatus(spec.name, spec.v1, spec.v2, Stage.OFF, key_columns=spec.key))
        return Registered(spec.name, spec.v1, spec.v2, spec.key)

    def unregister_pair(self, pair: str, *, reason: str) -> None:
        """Forget it."""
        self._called("unregister_pair", pair, reason)
        self._pair(pair)
        del self.pairs[pair]

    def refresh_pair(self, pair: str) -> Refreshed:
        """From then on it is of this release."""
        self._called("refresh_pair", pair)
        self._pair(pair)
        before = self.generators.get(pair, __version__)
        self.generators[pair] = __version__
        return Refreshed(pair, before, __version__, self.version)

    def remove_partition(
        self, pair: str, partition: str, *, how: PartitionRemoval, reason: str
    ) -> PartitionRemoved:
        """It has no rows."""
        self._called("remove_partition", pair, partition, how, reason)
        self._pair(pair)
        return PartitionRemoved(pair, partition, how, 0, self.version)

    def check_conversion(
        self, pair: str, *, side: int, after: Key | None, max_rows: int
    ) -> ConversionCheck:
        """The next scripted answer, else an empty table."""
        self._called("check_conversion", pair, side, after, max_rows)
        return self.checks.popleft() if self.checks else ConversionCheck(0)

    def sample_keys(self, pair: str, *, side: int, keys: int) -> tuple[Key, ...]:
        """The scripted keys, else none."""
        self._called("sample_keys", pair, side, keys)
        return self.keys[:keys]

    def judge_pair(
        self,
        pair: str,
        *,
        v1: str | None = None,
        v2: str | None = None,
        v2_key: Sequence[str] = (),
        key: Sequence[str] = (),
    ) -> Judged:
        """What the test put there, else nothing to say."""
        self._called("judge_pair", pair, v1, v2, tuple(v2_key), tuple(key))
        return self.judged.get(pair, Judged(pair))

    def ignore_dependents(self, pair: str, names: Sequence[str], *, reason: str) -> Ignored:
        """Nothing was ignored before."""
        self._called("ignore_dependents", pair, tuple(names), reason)
        self._pair(pair)
        return Ignored(pair, (), tuple(names))

    def describe_table(self, name: str, *, sample_rows: int = 0) -> TableInfo:
        """A table the test put there."""
        self._called("describe_table", name, sample_rows)
        if name not in self.tables:
            raise refusal(ErrorCode.INVALID_ARGUMENT, f'Table "{name}" does not exist')
        return self.tables[name]

    def carry_plan(self, table: str, *, column: str) -> CarryPlan:
        """The next plan that the test put there; the last one stays."""
        self._called("carry_plan", table, column)
        return self.carries.popleft() if len(self.carries) > 1 else self.carries[0]

    def carry_batch(
        self, table: str, *, column: str, fires_triggers: bool, target_ms: int | None = None
    ) -> Batch:
        """The whole column at once."""
        self._called("carry_batch", table, column, fires_triggers, target_ms)
        run = Run(0, "fill", table, state=RunState.FINISHED, rows_done=3, rows_written=3)
        return Batch(run, RunState.FINISHED, rows_read=3, rows_written=3)

    def relabel_plan(self, table: str, *, column: str, to_value: str | None) -> RelabelPlan:
        """The plan that the test put there."""
        self._called("relabel_plan", table, column, to_value)
        return self.relabels[table]

    def plan_pair(self, pair: str, *, sample_rows: int) -> PairPlan:
        """A plan the test put there, else an empty one."""
        self._called("plan_pair", pair, sample_rows)
        return self.plans.get(pair, PairPlan(pair, self._pair(pair).stage))

    def handover_plan(self, pair: str) -> Handover:
        """A plan the test put there, else that nothing depends on V1."""
        self._called("handover_plan", pair)
        return self.handovers.get(pair, Handover(pair, self._pair(pair).stage))

    def set_stage(
        self, pair: str, stage: Stage, *, reason: str | None, confirm: bool, anyway: bool = False
    ) -> StageChanged:
        """Refused with the pair's blockers when it goes forward."""
        self._called("set_stage", pair, stage, reason, confirm)
        found = self._pair(pair)
        if stage.rank > found.stage.rank:
            if found.latched_at:
                raise refusal(ErrorCode.LATCHED, f'Cannot set "{pair}": latched')
            if not anyway:
                self._check_stops(pair)
            if found.blockers:
                raise refused_stage(pair, stage, found.blockers)
        self.pairs[pair] = replace(found, stage=stage)
        self.version += 1
        now = self._backend(self.pairs[pair])
        return StageChanged(pair, found.stage, stage, self.version, backend=now)

    def pair_writes(self, pair: str, *, minutes: int) -> PairWrites:
        """Nobody has written."""
        self._called("pair_writes", pair, minutes)
        none = dict.fromkeys(("user", "service", "direct"), 0)
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        return PairWrites(pair, self._pair(pair).stage, since, {1: none, 2: none})

    def group_status(self, name: str | None = None) -> tuple[GroupStatus, ...]:
        """By the groups of the pairs; a pair without one is alone."""
        self._called("group_status", name)
        groups: dict[str, list[PairStatus]] = {}
        for pair in sorted(self.pairs):
            groups.setdefault(self.pairs[pair].group or pair, []).append(self.pairs[pair])
        found = {
            group: pairs
            for group, pairs in groups.items()
            if name in (None, group, *(pair.name for pair in pairs))
        }
        if name and not found:
            raise refusal(ErrorCode.UNKNOWN_PAIR, f'Unknown group "{name}"')
        return tuple(self._group(group, pairs) for group, pairs in found.items())

    def _group(self, name: str, pairs: list[PairStatus]) -> GroupStatus:
        lowest = min(pairs, key=lambda pair: pair.stage.rank)
        return GroupStatus(
            name,
            tuple(GroupPair(pair.name, pair.stage, pair.mirror, pair.percentage) for pair in pairs),
            lowest.stage,
            lowest.next_stage,
            tuple(replace(blocker, pair=pair.name) for pair in pairs for blocker in pair.blockers),
        )

    def set_group_stage(
        self, name: str, stage: Stage, *, reason: str | None, confirm: bool, anyway: bool = False
    ) -> GroupMoved:
        """As ``set_stage`` of each."""
        (group,) = self.group_status(name)
        before = [self.pairs[pair.pair] for pair in group.pairs]
        for pair in before:
            if pair.stage is not stage:
                self.set_stage(pair.name, stage, reason=reason, confirm=confirm, anyway=anyway)
        return GroupMoved(
            tuple(PairMoved(pair.name, pair.stage, stage) for pair in before), self.version
        )

    def set_mirror(self, pair: str, mode: MirrorMode, *, reason: str) -> MirrorChanged:
        """Refused when users depend on it."""
        self._called("set_mirror", pair, mode, reason)
        found = self._pair(pair)
        if found.stage not in (Stage.DUALWRITE, Stage.SHADOW):
            raise refused_stage(pair, found.stage, ())
        self.pairs[pair] = replace(found, mirror=mode.value)
        self.version += 1
        return MirrorChanged(pair, found.mirror, mode.value, self.version)

    def check_rls(self, pair: str, *, user_ids: Sequence[str]) -> RlsCheck:
        """The next scripted answer, else no difference."""
        self._called("check_rls", pair, tuple(user_ids))
        self._pair(pair)
        return self.parities.popleft() if self.parities else RlsCheck(pair, len(user_ids))

    def rearm(self, pair: str, *, reason: str) -> None:
        """Remove the latch."""
        self._called("rearm", pair, reason)
        self.pairs[pair] = replace(self._pair(pair), latched_at=None, latch_reason=None)
