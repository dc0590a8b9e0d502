"""What pairs need of the database."""

from collections.abc import Sequence
from typing import Protocol

from crossfade.core.contract import (
    MirrorMode,
    PartitionRemoval,
    Stage,
)
from crossfade.core.values import Key
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

    def relabel_plan(self, table: str, *, column: str, to_value: str | None) -> RelabelPlan:
        """Return how a table becomes the first partition of its name, and how far it is."""

    def plan_pair(self, pair: str, *, sample_rows: int) -> PairPlan:
        """Return what the stages will do to the database. Changes nothing."""

    def handover_plan(self, pair: str) -> Handover:
        """Return what depends on V1, and the migration that hands it over. Changes nothing."""

    def set_stage(
        self, pair: str, stage: Stage, *, reason: str | None, confirm: bool, anyway: bool = False
    ) -> StageChanged:
        """Move a pair to another stage; ``anyway``: also forward while V2 is stopped."""

    def pair_writes(self, pair: str, *, minutes: int) -> PairWrites:
        """Return who wrote which table in the last minutes (1 to 43200)."""

    def group_status(self, name: str | None = None) -> tuple[GroupStatus, ...]:
        """Return all groups, or the one of this name or with this pair."""

    def set_group_stage(
        self, name: str, stage: Stage, *, reason: str | None, confirm: bool, anyway: bool = False
    ) -> GroupMoved:
        """Move all pairs of a group to a stage, or none; ``anyway`` as ``set_stage``."""

    def set_mirror(self, pair: str, mode: MirrorMode, *, reason: str) -> MirrorChanged:
        """Pause the mirror (log_only: changed keys are only noted) or resume it (both)."""

    def check_rls(self, pair: str, *, user_ids: Sequence[str]) -> RlsCheck:
        """Ask the policies of both tables as each of these users."""

    def rearm(self, pair: str, *, reason: str) -> None:
        """Allow going forward again after an automatic rollback."""
