"""The methods of the gateway: one per RPC or table read. JSON objects stay in here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import httpx
import tenacity

from crossfade.core import contract
from crossfade.core.contract import (
    Direction,
    Event,
    FollowerOnly,
    Level,
    MirrorMode,
    PartitionRemoval,
    Stage,
)
from crossfade.core.errors import OlderSchemaError
from crossfade.core.values import Key
from crossfade.core.versions import UPGRADE_DATABASE
from crossfade.flags.model import (
    CohortChanged,
    Engaged,
    Evaluation,
    Exposure,
    Flag,
    FlagState,
    KillSwitch,
)
from crossfade.flags.port import Changes
from crossfade.gateway.api import DataApi
from crossfade.gateway.change_calls import ChangeCalls
from crossfade.gateway.doctor_calls import DoctorCalls
from crossfade.gateway.operator_calls import OperatorCalls
from crossfade.gateway.overview_reads import OverviewReads
from crossfade.gateway.rows import parse, plain, verdict_row
from crossfade.health.model import HealthSample, Lease, MonitorDriven
from crossfade.health.verdicts import Verdict
from crossfade.pairs.catalog import CarryPlan, Handover, PairPlan, RelabelPlan, TableInfo
from crossfade.pairs.model import (
    ConversionCheck,
    GroupMoved,
    GroupStatus,
    Ignored,
    Judged,
    MirrorChanged,
    PairSpec,
    PairStatus,
    PairWrites,
    PartitionRemoved,
    Refreshed,
    Registered,
    RlsCheck,
    StageChanged,
)
from crossfade.people.model import AuditEntry
from crossfade.project.config import Connection
from crossfade.rollback.model import RollbackDone, RollbackEntry, Snapshot
from crossfade.rollouts.plan import RolloutAdvanced, RolloutControlled, RolloutPlan, RolloutView
from crossfade.runs.model import Batch, Driven, Look, Repaired, RepairPlan, Run, Started


class SupabaseGateway(ChangeCalls, DoctorCalls, OperatorCalls, OverviewReads):
    """A gateway over one Supabase project. Safe to share between threads; close it, or use with.

    Args:
        connection: where, with which key, as whom.
        transport: replaces the network, in tests of faults.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = tenacity.nap.sleep,
    ) -> None:
        self._api = DataApi(connection, transport=transport, sleep=sleep)

    @property
    def url(self) -> str:
        """Where this gateway talks to."""
        return self._api.url

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Flags, kill switches, cohorts ---------------------------------------------------------------

    def check_schema(self) -> int:
        """Return the schema version; raises NotInstalledError when it is missing or older."""
        rows = self._api.select("control", limit=1)
        if not rows and self._api.is_person:
            self.whoami()  # refuses: the policies show nothing to somebody who is no operator
        found = int(rows[0]["schema_version"]) if rows else 0
        if found < contract.SCHEMA_VERSION:
            raise OlderSchemaError(
                f"Schema version {found} at {self._api.url} is older than"
                f" {contract.SCHEMA_VERSION}, which this command needs",
                hint=UPGRADE_DATABASE,
            )
        return found

    def installed_release(self) -> str:
        """Return the release that was installed last; empty for one that does not say."""
        rows = self._api.select("control", limit=1)
        return str(rows[0].get("release", "")) if rows else ""

    def read_flags(self) -> FlagState:
        """Return all control rows at one version."""
        answer = self._api.rpc("read_flags")
        for name in ("flags", "pairs"):
            answer[name] = {row["name"]: row for row in answer[name]}
        return parse(FlagState, answer)

    def set_flag(self, name: str, changes: Changes, *, reason: str | None) -> Flag:
        """Change some columns of a flag; ``create=True`` among them makes a new one."""
        answer = self._api.rpc("set_flag", name=name, changes=plain(changes), reason=reason)
        return parse(Flag, answer["flag"])

    def explain_flag(self, name: str, context: Mapping[str, str]) -> Evaluation:
        """Evaluate in the database, with the steps."""
        answer = self._api.rpc("explain_flag", name=name, context=dict(context))
        return parse(Evaluation, {**answer, **answer["metadata"]})

    def set_cohort(
        self, pair: str, changes: Changes, *, reason: str | None, anyway: bool = False
    ) -> CohortChanged:
        """Change some columns of a pair's cohort; ``anyway``: also up while V2 is stopped."""
        # Only when it is asked for: an older database does not know it, and must let people down.
        more = {"anyway": True} if anyway else {}
        return self._api.ask(
            CohortChanged, "set_cohort", pair=pair, changes=plain(changes), reason=reason, **more
        )

    def set_setting(self, name: str, value: str, *, reason: str) -> None:
        """Change one number or choice; ``value`` is text of the type the setting has."""
        self._api.rpc("set_setting", name=name, value=value, reason=reason)

    def engage_kill_switch(self, name: str, *, reason: str | None) -> Engaged:
        """Engage; when this returns, the database refuses what the switch forbids."""
        return self._api.ask(Engaged, "engage_kill_switch", name=name, reason=reason)

    def last_served(self, backend: int, *, pair: str | None, since: datetime) -> datetime | None:
        """When this backend last served a request (database's clock); None: not since then."""
        rows = self._api.select(
            "request_minutes",
            "last_at",
            limit=1,
            order="last_at",
            backend_version=backend,
            since=("minute", since - timedelta(minutes=1)),
            outcome="ok",
            pair=pair,
        )
        return datetime.fromisoformat(rows[0]["last_at"]) if rows else None

    def release_kill_switch(self, name: str, *, reason: str) -> KillSwitch:
        """Release; a reason is required."""
        answer = self._api.rpc("release_kill_switch", name=name, reason=reason)
        return parse(KillSwitch, answer["kill_switch"])

    def broadcast(self, event: Event, payload: Mapping[str, str | int | bool]) -> None:
        """Send a hint to edge functions over HTTP; raises what went wrong."""
        self._api.broadcast(event, payload)

    # Runs ----------------------------------------------------------------------------------------

    def start_backfill(self, pair: str, *, direction: Direction, ranges: int) -> Started:
        """Start, or find the one that is not over."""
        return self._api.ask(
            Started, "start_backfill", pair=pair, direction=direction, ranges=ranges
        )

    def backfill_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """Copy one batch in one transaction."""
        return self._api.ask(Batch, "backfill_batch", run=run, target_ms=target_ms)

    def start_verify(self, pair: str, *, ranges: int) -> Started:
        """Start, or find the one that is not over."""
        return self._api.ask(Started, "start_verify", pair=pair, ranges=ranges)

    def verify_batch(self, run: int, *, target_ms: int | None) -> Batch:
        """Compare one batch."""
        return self._api.ask(Batch, "verify_batch", run=run, target_ms=target_ms)

    def control_run(self, run: int, action: str, *, reason: str | None) -> Run:
        """Pause, resume or cancel."""
        answer = self._api.rpc("control_run", run=run, action=action, reason=reason)
        return parse(Run, answer["run"])

    def run_status(self, run: int) -> Run:
        """Return the run as it stands."""
        return parse(Run, self._api.rpc("run_status", run=run)["run"])

    def drive_run(self, run: int, *, enabled: bool) -> Driven:
        """Let pg_cron do the batches of a run inside the database, or no longer."""
        return self._api.ask(Driven, "drive_run", run=run, enabled=enabled)

    def list_runs(self, pair: str | None = None, *, kind: str | None = None) -> tuple[Run, ...]:
        """Return active runs and the last one of each kind, newest first."""
        found: dict[int, Run] = {}
        for status in self.pair_status(pair):
            for run in (*status.runs, *status.last_runs):
                if kind in (None, run.kind):
                    found[run.id] = run
        return tuple(found[number] for number in sorted(found, reverse=True))

    def repair(
        self,
        pair: str,
        *,
        max_rows: int,
        reason: str | None,
        follower_only: FollowerOnly = FollowerOnly.KEEP,
    ) -> Repaired:
        """Make both rows of some keys agree; what only the follower has is the caller's choice."""
        return self._api.ask(
            Repaired,
            "repair",
            pair=pair,
            max_rows=max_rows,
            reason=reason,
            follower_only=follower_only.value,
        )

    def plan_repair(self, pair: str, *, max_rows: int) -> RepairPlan:
        """Return what ``repair`` would do to the first rows, by key. Reads only."""
        return self._api.ask(RepairPlan, "plan_repair", pair=pair, max_rows=max_rows)

    # Pairs ---------------------------------------------------------------------------------------

    def pair_status(self, pair: str | None = None) -> tuple[PairStatus, ...]:
        """Return one pair or all of them, by name."""
        answer = self._api.rpc("pair_status", pair=pair)
        return tuple(parse(PairStatus, row) for row in answer["pairs"])

    def register_pair(self, spec: PairSpec) -> Registered:
        """Register; the same description twice is no error."""
        given = asdict(spec)
        options = {
            name: given.pop(name) for name in ("failure_policy", "gate_flag", "cohort_key", "group")
        }
        given["key"] = list(spec.key) or None
        given["options"] = {name: value for name, value in options.items() if value is not None}
        answer = self._api.rpc("register_pair", **given)
        return parse(Registered, {**answer["pair"], "warnings": answer["warnings"]})

    def unregister_pair(self, pair: str, *, reason: str) -> None:
        """Forget a pair. The user's tables stay."""
        self._api.rpc("unregister_pair", pair=pair, reason=reason)

    def refresh_pair(self, pair: str) -> Refreshed:
        """Make its mirror anew: by the installed release, for the triggers its tables have now."""
        return self._api.ask(Refreshed, "refresh_pair", pair=pair)

    def remove_partition(
        self, pair: str, partition: str, *, how: PartitionRemoval, reason: str
    ) -> PartitionRemoved:
        """Detach, drop or truncate it, with what the other table has of its rows."""
        return self._api.ask(
            PartitionRemoved,
            "remove_partition",
            pair=pair,
            partition=partition,
            how=how,
            reason=reason,
        )

    def check_conversion(
        self, pair: str, *, side: int, after: Key | None, max_rows: int
    ) -> ConversionCheck:
        """Prove the laws on some live rows. Reads only."""
        start = dict(after) if after else None
        return self._api.ask(
            ConversionCheck,
            "check_conversion",
            pair=pair,
            side=side,
            after=start,
            max_rows=max_rows,
        )

    def sample_keys(self, pair: str, *, side: int, keys: int) -> tuple[Key, ...]:
        """Return random keys of a side, for a check that does not read everything."""
        answer = self._api.rpc("sample_keys", pair=pair, side=side, keys=keys)
        return tuple(dict(key) for key in answer["keys"])

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
        options = {"v2_key": list(v2_key)} if v2_key else {}
        named = {"key": list(key)} if key else {}
        return self._api.ask(
            Judged, "judge_pair", name=pair, v1=v1, v2=v2, options=options, **named
        )

    def ignore_dependents(self, pair: str, names: Sequence[str], *, reason: str) -> Ignored:
        """Let these objects depend on V1 when the pair becomes complete; none takes all back."""
        return self._api.ask(
            Ignored, "ignore_dependents", pair=pair, names=list(names), reason=reason
        )

    def describe_table(self, name: str, *, sample_rows: int = 0) -> TableInfo:
        """Return what the catalog says about a table, and some rows."""
        return self._api.ask(TableInfo, "describe_table", name=name, sample_rows=sample_rows)

    def carry_plan(self, table: str, *, column: str) -> CarryPlan:
        """Return how a table comes to carry a uuid as a key, and how far it is."""
        return self._api.ask(CarryPlan, "carry_plan", name=table, column_name=column)

    def carry_batch(
        self, table: str, *, column: str, fires_triggers: bool, target_ms: int | None = None
    ) -> Batch:
        """Fill the next rows of that column in one transaction."""
        return self._api.ask(
            Batch,
            "carry_batch",
            name=table,
            column_name=column,
            fires_triggers=fires_triggers,
            target_ms=target_ms,
        )

    def relabel_plan(self, table: str, *, column: str, to_value: str | None) -> RelabelPlan:
        """Return how a table becomes the first partition of its name, and how far it is."""
        return self._api.ask(
            RelabelPlan, "relabel_plan", name=table, column_name=column, to_value=to_value
        )

    def plan_pair(self, pair: str, *, sample_rows: int) -> PairPlan:
        """Return what the stages will do to the database. Changes nothing."""
        return self._api.ask(PairPlan, "plan_pair", pair=pair, sample_rows=sample_rows)

    def handover_plan(self, pair: str) -> Handover:
        """Return what depends on V1, and the migration that hands it over. Changes nothing."""
        return self._api.ask(Handover, "handover_plan", pair=pair)

    def set_stage(
        self, pair: str, stage: Stage, *, reason: str | None, confirm: bool, anyway: bool = False
    ) -> StageChanged:
        """Move a pair to another stage; ``anyway``: also forward while V2 is stopped."""
        more = {"anyway": True} if anyway else {}
        return self._api.ask(
            StageChanged,
            "set_stage",
            pair=pair,
            stage=stage,
            reason=reason,
            confirm=confirm,
            **more,
        )

    def pair_writes(self, pair: str, *, minutes: int) -> PairWrites:
        """Return who wrote which table in the last minutes (1 to 43200)."""
        return self._api.ask(PairWrites, "pair_writes", pair=pair, minutes=minutes)

    def group_status(self, name: str | None = None) -> tuple[GroupStatus, ...]:
        """Return all groups, or the one of this name or with this pair."""
        answer = self._api.rpc("group_status", name=name)
        return tuple(parse(GroupStatus, row) for row in answer["groups"])

    def set_group_stage(
        self, name: str, stage: Stage, *, reason: str | None, confirm: bool, anyway: bool = False
    ) -> GroupMoved:
        """Move all pairs of a group to a stage, or none; ``anyway`` as ``set_stage``."""
        given = {"name": name, "stage": stage, "reason": reason, "confirm": confirm}
        more = {"anyway": True} if anyway else {}
        return self._api.ask(GroupMoved, "set_group_stage", **given, **more)

    def set_mirror(self, pair: str, mode: MirrorMode, *, reason: str) -> MirrorChanged:
        """Pause the mirror (log_only: changed keys are only noted) or resume it (both)."""
        return self._api.ask(MirrorChanged, "set_mirror", pair=pair, mode=mode, reason=reason)

    def check_rls(self, pair: str, *, user_ids: Sequence[str]) -> RlsCheck:
        """Ask the policies of both tables as each of these users."""
        return self._api.ask(RlsCheck, "check_rls", pair=pair, user_ids=list(user_ids))

    def rearm(self, pair: str, *, reason: str) -> None:
        """Allow going forward again after an automatic rollback."""
        self._api.rpc("rearm", pair=pair, reason=reason)

    # Health and going back -----------------------------------------------------------------------

    def health_sample(self, pair: str) -> HealthSample:
        """Return what the rules look at."""
        return self._api.ask(HealthSample, "health_sample", pair=pair)

    def verify_some(self, pair: str, *, max_rows: int) -> Look:
        """Compare the next rows of a pair, round and round."""
        return self._api.ask(Look, "verify_some", pair=pair, max_rows=max_rows)

    def record_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Count answers of flags; names that are no flag are ignored."""
        self._api.rpc("record_exposures", batch=[asdict(exposure) for exposure in exposures])

    def record_verdicts(self, pair: str, verdicts: Sequence[Verdict]) -> None:
        """Store one evaluation."""
        rows = [verdict_row(verdict) for verdict in verdicts]
        self._api.rpc("record_verdicts", pair=pair, verdicts=rows)

    def latest_verdicts(self, pair: str) -> tuple[Verdict, ...]:
        """Return the newest stored verdict of each rule."""
        rows = self._api.select("verdicts", limit=60, order="id", pair=pair)
        newest: dict[str, Verdict] = {}
        for row in rows:
            # The rule's own clock; the database also counts the time a rule only held.
            row["breach_since"] = (row.get("details") or {}).get("since")
            newest.setdefault(row["rule"], parse(Verdict, row))
        return tuple(newest.values())

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
        """Go back, or say what would happen."""
        params = {
            "level": level,
            "scope": scope,
            "reason": reason,
            "automatic": automatic,
            "dry_run": dry_run,
            "expected_step": expected_step,
        }
        # With the step that was seen, a second call finds the pair moved and does nothing.
        repeatable = dry_run or expected_step is not None
        return parse(RollbackDone, self._api.call("rollback", params, repeatable=repeatable))

    def monitor_beat(self, holder: str, *, release: bool = False) -> Lease:
        """Say that this monitor lives, and learn whether it decides."""
        return self._api.ask(Lease, "monitor_beat", holder=holder, release=release)

    def drive_monitor(self, *, enabled: bool) -> MonitorDriven:
        """Let pg_cron watch inside the database while no monitor lives, or no longer."""
        return self._api.ask(MonitorDriven, "drive_monitor", enabled=enabled)

    # Rollouts ------------------------------------------------------------------------------------

    def rollout_status(self, pair: str) -> RolloutView:
        """Return the newest rollout of a pair and what it waits for."""
        return self._api.ask(RolloutView, "rollout_status", pair=pair)

    def start_rollout(
        self, pair: str, plan: RolloutPlan, *, reason: str, speed: float = 1
    ) -> RolloutView:
        """Begin to follow a plan; the same one twice is no error."""
        return self._api.ask(
            RolloutView, "start_rollout", pair=pair, plan=plan.as_row(), reason=reason, speed=speed
        )

    def control_rollout(
        self, pair: str, action: str, *, reason: str, step: str | None = None, keep: bool = False
    ) -> RolloutControlled:
        """Hold, resume, approve or abort."""
        return self._api.ask(
            RolloutControlled,
            "control_rollout",
            pair=pair,
            action=action,
            reason=reason,
            step=step,
            keep=keep,
        )

    def advance_rollout(
        self, pair: str, *, expected_step: int, automatic: bool, reason: str | None = None
    ) -> RolloutAdvanced:
        """Take the next step when nothing stands against it and nobody else has moved the pair."""
        return self._api.ask(
            RolloutAdvanced,
            "advance_rollout",
            pair=pair,
            expected_step=expected_step,
            automatic=automatic,
            reason=reason,
        )

    def list_rollbacks(self, *, limit: int = 20) -> tuple[RollbackEntry, ...]:
        """Return the rollback log, newest first."""
        rows = self._api.select("rollbacks", limit=limit, order="id")
        return tuple(parse(RollbackEntry, row) for row in rows)

    # Snapshots and audit -------------------------------------------------------------------------

    def take_snapshot(self, *, reason: str | None) -> Snapshot:
        """Save the control state."""
        return parse(Snapshot, self._api.rpc("take_snapshot", reason=reason)["snapshot"])

    def restore_snapshot(self, snapshot: int, *, reason: str) -> Snapshot:
        """Bring a saved control state back."""
        answer = self._api.rpc("restore_snapshot", id=snapshot, reason=reason)
        return parse(Snapshot, answer["snapshot"])

    def list_snapshots(self, *, limit: int = 20) -> tuple[Snapshot, ...]:
        """Return snapshots, newest first."""
        rows = self._api.select("snapshots", "id,at,actor,reason", limit=limit, order="id")
        return tuple(parse(Snapshot, row) for row in rows)

    def list_audit(self, *, limit: int = 50, name: str | None = None) -> tuple[AuditEntry, ...]:
        """Return audit rows, newest first."""
        rows = self._api.select("audit", limit=limit, order="id", object=name)
        return tuple(parse(AuditEntry, row) for row in rows)
