"""What the rest of crossfade needs from the database, as protocols.

A module asks for the smallest one it can work with. ``gateway.SupabaseGateway`` is the real one,
``testing.FakeGateway`` the one for tests.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from crossfade.catalog import CarryPlan, Handover, PairPlan, RelabelPlan, TableInfo
from crossfade.change_sets import Applied, Scheduled
from crossfade.contract import (
    Direction,
    Event,
    FollowerOnly,
    Level,
    MirrorMode,
    OperatorRole,
    PartitionRemoval,
    Stage,
)
from crossfade.doctor import CheckRow, Diagnosis
from crossfade.flags import Evaluation, Exposure, Flag, FlagState, KillSwitch
from crossfade.flags_file import Change
from crossfade.kill_switches import Engaged
from crossfade.models import (
    AuditEntry,
    Batch,
    CohortChanged,
    ConversionCheck,
    Driven,
    GroupMoved,
    GroupStatus,
    HealthSample,
    Ignored,
    Judged,
    Key,
    Lease,
    Look,
    MirrorChanged,
    MonitorDriven,
    PairStatus,
    PairWrites,
    PartitionRemoved,
    Refreshed,
    Registered,
    Repaired,
    RepairPlan,
    RlsCheck,
    RollbackDone,
    RollbackEntry,
    RowPair,
    Run,
    Snapshot,
    StageChanged,
    Started,
)
from crossfade.operators import Caller, Operator, OperatorChanged
from crossfade.overview import Overview
from crossfade.pairs import PairSpec
from crossfade.rollout_plans import RolloutAdvanced, RolloutControlled, RolloutPlan, RolloutView
from crossfade.verdicts import Verdict

Changes = Mapping[str, str | bool | Decimal | Sequence[str] | None]
"""Columns to change; the rest stays."""


class Controls(Protocol):
    """Flags, kill switches and cohorts."""

    def read_flags(self) -> FlagState:
        """Return all control rows at one version."""

    def set_flag(self, name: str, changes: Changes, *, reason: str | None) -> Flag:
        """Change some columns of a flag; ``create=True`` among them makes a new one."""

    def explain_flag(self, name: str, context: Mapping[str, str]) -> Evaluation:
        """Evaluate in the database, with the steps."""

    def set_cohort(self, pair: str, changes: Changes, *, reason: str | None) -> CohortChanged:
        """Change some columns of a pair's cohort."""

    def set_setting(self, name: str, value: str, *, reason: str) -> None:
        """Change one number or choice; ``value`` is text of the type the setting has."""

    def engage_kill_switch(self, name: str, *, reason: str | None) -> Engaged:
        """Engage; when this returns, the database refuses what the switch forbids."""

    def last_served(self, backend: int, *, pair: str | None, since: datetime) -> datetime | None:
        """When this backend last served a request (database's clock); None: not since then."""

    def release_kill_switch(self, name: str, *, reason: str) -> KillSwitch:
        """Release; a reason is required."""

    def broadcast(self, event: Event, payload: Mapping[str, str | int | bool]) -> None:
        """Send a hint to edge functions over HTTP. Best effort for the caller to catch."""


class Runs(Protocol):
    """Backfill, verification and repair."""

    def start_backfill(self, pair: str, *, direction: Direction, ranges: int) -> Started:
        """Start, or find the one that is not over."""

    def backfill_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """Copy one batch in one transaction."""

    def start_verify(self, pair: str, *, ranges: int) -> Started:
        """Start, or find the one that is not over."""

    def verify_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """Compare one batch."""

    def control_run(self, run: int, action: str, *, reason: str | None) -> Run:
        """Pause, resume or cancel."""

    def run_status(self, run: int) -> Run:
        """Return the run as it stands."""

    def drive_run(self, run: int, *, enabled: bool) -> Driven:
        """Let pg_cron do the batches of a run inside the database, or no longer."""

    def repair(
        self,
        pair: str,
        *,
        max_rows: int,
        reason: str | None,
        follower_only: FollowerOnly = FollowerOnly.KEEP,
    ) -> Repaired:
        """Make both rows of some keys agree; what only the follower has is the caller's choice."""

    def plan_repair(self, pair: str, *, max_rows: int) -> RepairPlan:
        """Return what ``repair`` would do to the first rows, by key. Reads only."""

    def list_runs(self, pair: str | None = None, *, kind: str | None = None) -> tuple[Run, ...]:
        """Return active runs and the last one of each kind, newest first."""


class Pairs(Protocol):
    """Pairs and their stages."""

    def pair_status(self, pair: str | None = None) -> tuple[PairStatus, ...]:
        """Return one pair or all of them, by name."""

    def register_pair(self, spec: PairSpec) -> Registered:
        """Register; the same description twice is no error."""

    def unregister_pair(self, pair: str, *, reason: str) -> None:
        """Forget a pair. The user's tables stay."""

    def refresh_pair(self, pair: str) -> Refreshed:
        """Make its mirror anew: by the installed release, for the triggers its tables have now."""

    def remove_partition(
        self, pair: str, partition: str, *, how: PartitionRemoval, reason: str
    ) -> PartitionRemoved:
        """Detach, drop or truncate it, with what the other table has of its rows."""

    def check_conversion(
        self, pair: str, *, side: int, after: Key | None, max_rows: int
    ) -> ConversionCheck:
        """Prove the laws on some live rows. Reads only."""

    def sample_keys(self, pair: str, *, side: int, keys: int) -> tuple[Key, ...]:
        """Return random keys of a side, for a check that does not read everything."""

    def judge_pair(
        self,
        pair: str,
        *,
        v1: str | None = None,
        v2: str | None = None,
        v2_key: Sequence[str] = (),
        key: Sequence[str] = (),
    ) -> Judged:
        """Return what registration would say: of these tables, or of the registered pair."""

    def ignore_dependents(self, pair: str, names: Sequence[str], *, reason: str) -> Ignored:
        """Let these objects depend on V1 when the pair becomes complete; none takes all back."""

    def describe_table(self, name: str, *, sample_rows: int = 0) -> TableInfo:
        """Return what the catalog says about a table, and some rows."""

    def carry_plan(self, table: str, *, column: str) -> CarryPlan:
        """Return how a table comes to carry a uuid as a key, and how far it is."""

    def carry_batch(
        self, table: str, *, column: str, fires_triggers: bool, target_ms: int | None = None
    ) -> Batch:
        """Fill the next rows of that column in one transaction."""

    def relabel_plan(self, table: str, *, column: str, to_value: str | None) -> RelabelPlan:
        """Return how a table becomes the first partition of its name, and how far it is."""

    def plan_pair(self, pair: str, *, sample_rows: int) -> PairPlan:
        """Return what the stages will do to the database. Changes nothing."""

    def handover_plan(self, pair: str) -> Handover:
        """Return what depends on V1, and the migration that hands it over. Changes nothing."""

    def set_stage(
        self, pair: str, stage: Stage, *, reason: str | None, confirm: bool
    ) -> StageChanged:
        """Move a pair to another stage."""

    def pair_writes(self, pair: str, *, minutes: int) -> PairWrites:
        """Return who wrote which table in the last minutes (1 to 43200)."""

    def group_status(self, name: str | None = None) -> tuple[GroupStatus, ...]:
        """Return all groups, or the one of this name or with this pair."""

    def set_group_stage(
        self, name: str, stage: Stage, *, reason: str | None, confirm: bool
    ) -> GroupMoved:
        """Move all pairs of a group to a stage, or none."""

    def set_mirror(self, pair: str, mode: MirrorMode, *, reason: str) -> MirrorChanged:
        """Pause the mirror (log_only: changed keys are only noted) or resume it (both)."""

    def check_rls(self, pair: str, *, user_ids: Sequence[str]) -> RlsCheck:
        """Ask the policies of both tables as each of these users."""

    def rearm(self, pair: str, *, reason: str) -> None:
        """Allow going forward again after an automatic rollback."""


class Health(Protocol):
    """Measuring and going back."""

    def health_sample(self, pair: str) -> HealthSample:
        """Return what the rules look at."""

    def verify_some(self, pair: str, *, max_rows: int) -> Look:
        """Compare the next rows of a pair, round and round."""

    def record_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Count answers of flags; names that are no flag are ignored."""

    def record_verdicts(self, pair: str, verdicts: Sequence[Verdict]) -> None:
        """Store one evaluation."""

    def latest_verdicts(self, pair: str) -> tuple[Verdict, ...]:
        """Return the newest stored verdict of each rule."""

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
        """Go back, or say what would happen; nothing when the pair has left ``expected_step``."""

    def monitor_beat(self, holder: str, *, release: bool = False) -> Lease:
        """Say that this monitor lives, and learn whether it decides."""

    def drive_monitor(self, *, enabled: bool) -> MonitorDriven:
        """Let pg_cron watch inside the database while no monitor lives, or no longer."""

    def list_rollbacks(self, *, limit: int = 20) -> tuple[RollbackEntry, ...]:
        """Return the rollback log, newest first."""


class Rollouts(Protocol):
    """Following a plan."""

    def rollout_status(self, pair: str) -> RolloutView:
        """Return the newest rollout of a pair and what it waits for."""

    def start_rollout(
        self, pair: str, plan: RolloutPlan, *, reason: str, speed: float = 1
    ) -> RolloutView:
        """Begin to follow a plan; the same one twice is no error."""

    def control_rollout(
        self, pair: str, action: str, *, reason: str, step: str | None = None, keep: bool = False
    ) -> RolloutControlled:
        """Hold, resume, approve or abort."""

    def advance_rollout(
        self, pair: str, *, expected_step: int, automatic: bool, reason: str | None = None
    ) -> RolloutAdvanced:
        """Take the next step when nothing stands against it and nobody else has moved the pair."""


class History(Protocol):
    """Snapshots and the audit."""

    def take_snapshot(self, *, reason: str | None) -> Snapshot:
        """Save the control state."""

    def restore_snapshot(self, snapshot: int, *, reason: str) -> Snapshot:
        """Bring a saved control state back."""

    def list_snapshots(self, *, limit: int = 20) -> tuple[Snapshot, ...]:
        """Return snapshots, newest first."""

    def list_audit(self, *, limit: int = 50, name: str | None = None) -> tuple[AuditEntry, ...]:
        """Return audit rows, newest first."""


class ChangeSets(Protocol):
    """Several changes as one, now or later."""

    def apply_changes(
        self, changes: Sequence[Change], *, reason: str, expected_version: int | None
    ) -> Applied:
        """Apply all of them in one transaction, or none."""

    def schedule_changes(
        self, changes: Sequence[Change], *, due_at: datetime, reason: str
    ) -> Scheduled:
        """Have them applied at a time."""

    def cancel_changes(self, number: int, *, reason: str) -> Scheduled:
        """Take scheduled changes back."""

    def apply_due_changes(self) -> tuple[Scheduled, ...]:
        """Apply what is due, exactly once however many ask; return what was done."""

    def list_schedules(self, *, limit: int = 50) -> tuple[Scheduled, ...]:
        """Return scheduled changes, newest first."""


class Operators(Protocol):
    """Who asks, and who may."""

    def whoami(self) -> Caller:
        """Return who asks; refuses somebody who is signed in and no operator."""

    def list_operators(self) -> tuple[Operator, ...]:
        """Return all of them, the newest first."""

    def add_operator(self, who: str, role: OperatorRole, *, reason: str) -> OperatorChanged:
        """Let a user of Supabase Auth operate."""

    def set_operator_role(self, who: str, role: OperatorRole, *, reason: str) -> OperatorChanged:
        """Change a role from the next request on."""

    def remove_operator(self, who: str, *, reason: str) -> Operator:
        """Take all rights away; the user stays."""


class Overviews(Protocol):
    """What people look at."""

    def overview(
        self, *, minutes: int = 60, series: str | None = None, totals: bool = False
    ) -> Overview:
        """Return every number people look at; ``series``: the pair to show over time."""

    def roll_up_requests(self, *, max_hours: int = 24) -> bool:
        """Sum some more hours of requests, so that long windows are fast; True: call again."""

    def show_rows(self, pair: str, key: Key) -> RowPair:
        """Return both rows of a key."""


class Doctor(Protocol):
    """The project itself."""

    def diagnose(self) -> Diagnosis:
        """Facts of the database, and how far its clock is ahead of this machine's."""

    def run_check(self, name: str, query: str) -> tuple[CheckRow, ...]:
        """Run one check of ``sql/checks``; the database recognises its text."""


class Gateway(
    Controls,
    Runs,
    Pairs,
    Health,
    Rollouts,
    History,
    ChangeSets,
    Doctor,
    Operators,
    Overviews,
    Protocol,
):
    """Everything."""

    @property
    def url(self) -> str:
        """Where this gateway talks to."""

    def check_schema(self) -> int:
        """Return the schema version.

        Raises:
            OlderSchemaError: it is older than what this command was written for.
            NotInstalledError: there is none.
        """

    def installed_release(self) -> str:
        """Return the release that was installed last; empty for one that does not say."""
