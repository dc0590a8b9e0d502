"""Names that SQL, the edge functions and Python must agree on.

Each value here is an entry of ``tests/vectors/contract.json``; a unit test compares the two.
"""

from enum import StrEnum
from typing import Final

SCHEMA: Final = "crossfade"
SCHEMA_VERSION: Final = 2
"""The schema this control plane was written for; ``crossfade.control.schema_version``."""

TOPIC: Final = "crossfade:flags"
ACTOR_HEADER: Final = "x-crossfade-actor"


class Stage(StrEnum):
    """Where a pair stands, in order."""

    OFF = "off"
    DUALWRITE = "dualwrite"
    SHADOW = "shadow"
    LIVE = "live"
    RAMPDOWN = "rampdown"
    COMPLETE = "complete"
    RETIRED = "retired"

    @property
    def rank(self) -> int:
        """Position in the order of stages, 0 for ``off``."""
        return list(Stage).index(self)

    @property
    def is_over(self) -> bool:
        """Whether V1 can serve nobody any more: from ``complete`` on."""
        return self.rank >= Stage.COMPLETE.rank


class Level(StrEnum):
    """Size of a rollback, from small to large."""

    FEATURE = "FEATURE"
    PARTIAL = "PARTIAL"
    COMPLETE = "COMPLETE"
    EMERGENCY = "EMERGENCY"

    @property
    def rank(self) -> int:
        """Position in the order of levels, 0 for the smallest."""
        return list(Level).index(self)


class Outcome(StrEnum):
    """What a health rule says. Listed from best to worst."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    HOLD = "HOLD"
    ERROR = "ERROR"
    FAIL = "FAIL"

    @property
    def rank(self) -> int:
        """0 for ``PASS``; the worst verdict of a sample wins."""
        return list(Outcome).index(self)


class Mode(StrEnum):
    """What may follow from a rule's verdict."""

    ENFORCE = "enforce"
    WARN = "warn"
    DRY_RUN = "dry_run"
    OFF = "off"


class Reason(StrEnum):
    """Why an evaluation gave its value, in OpenFeature's words."""

    STATIC = "STATIC"
    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    DISABLED = "DISABLED"
    STALE = "STALE"
    ERROR = "ERROR"


class Event(StrEnum):
    """Broadcast events on ``crossfade:flags``; hints to refetch, never the data."""

    FLAGS_CHANGED = "flags_changed"
    KILL = "kill"
    ROLLBACK = "rollback"


class RunState(StrEnum):
    """State of a run, as stored and as each batch answers it."""

    RUNNING = "running"
    WAITING = "waiting"
    THROTTLED = "throttled"
    SHRUNK = "shrunk"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """True when no further batch will do anything."""
        return self in {RunState.FINISHED, RunState.CANCELLED, RunState.FAILED}


class Direction(StrEnum):
    """Which way rows are copied."""

    V1_TO_V2 = "v1_to_v2"
    V2_TO_V1 = "v2_to_v1"


class FollowerOnly(StrEnum):
    """What a repair does with a row that only the follower has, and that no record explains."""

    KEEP = "keep"
    DELETE = "delete"
    COPY = "copy"


class RepairAction(StrEnum):
    """What a repair would do to a row. ``CHOOSE``: only a person knows (``FollowerOnly``)."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    CHOOSE = "choose"


class FailurePolicy(StrEnum):
    """What a mirror failure does to the client's write."""

    RECORD = "record"
    RAISE = "raise"


class PartitionRemoval(StrEnum):
    """What becomes of a partition whose rows go from both tables."""

    DETACH = "detach"
    DROP = "drop"
    TRUNCATE = "truncate"


class MirrorMode(StrEnum):
    """What the mirror of a pair does that users do not depend on yet."""

    BOTH = "both"
    LOG_ONLY = "log_only"


class OperatorRole(StrEnum):
    """What a signed-in person may do, from little to much."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class ErrorCode(StrEnum):
    """``detail.code`` of an error that the SQL functions raise."""

    UNKNOWN_PAIR = "CF001"
    UNKNOWN_FLAG = "CF002"
    UNKNOWN_KILL_SWITCH = "CF003"
    INVALID_PERCENTAGE = "CF004"
    STAGE_PRECONDITION = "CF005"
    LATCHED = "CF006"
    REASON_REQUIRED = "CF007"
    REGISTRATION_REFUSED = "CF008"
    UNKNOWN_RUN = "CF009"
    RUN_STATE = "CF010"
    PAIR_CHANGED = "CF011"
    INVALID_ARGUMENT = "CF012"
    CONFIRMATION_REQUIRED = "CF013"
    UNKNOWN_SNAPSHOT = "CF014"
    UNKNOWN_SETTING = "CF015"
    PAIR_EXISTS = "CF016"
    EXTENSION_MISSING = "CF018"
    NOT_ALLOWED = "CF020"
    UNKNOWN_OPERATOR = "CF021"
    LAST_ADMIN = "CF022"
    NO_ROLLOUT = "CF023"
    ROLLOUT_UNDER_WAY = "CF024"
    FLAGS_CHANGED = "CF025"
    UNKNOWN_SCHEDULE = "CF026"
    BUILT_IN = "CF027"
    STOPPED = "CF028"
    FENCED = "CF_FENCED"
    ARCHIVED = "CF_ARCHIVED"
    CLOSED = "CF_CLOSED"


class RolloutState(StrEnum):
    """State of a rollout."""

    RUNNING = "running"
    HELD = "held"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    FINISHED = "finished"

    @property
    def is_over(self) -> bool:
        """True when it will never move again."""
        return self in {RolloutState.ABORTED, RolloutState.FINISHED}


RPCS: Final[tuple[str, ...]] = (
    "add_operator",
    "advance_rollout",
    "apply_changes",
    "apply_due_changes",
    "backfill_batch",
    "bucket",
    "cancel_changes",
    "carry_batch",
    "carry_plan",
    "check_conversion",
    "check_rls",
    "choose_backend",
    "control_rollout",
    "control_run",
    "describe_table",
    "diagnose",
    "drive_monitor",
    "drive_run",
    "engage_kill_switch",
    "evaluate_flag",
    "explain_flag",
    "flags_version",
    "group_status",
    "handover_plan",
    "health_sample",
    "ignore_dependents",
    "judge_pair",
    "monitor_beat",
    "my_backend",
    "operate",
    "overview",
    "pair_status",
    "pair_writes",
    "plan_pair",
    "plan_repair",
    "read_flags",
    "rearm",
    "record_exposures",
    "record_requests",
    "record_rls_check",
    "record_verdicts",
    "refresh_pair",
    "register_pair",
    "relabel_plan",
    "release_kill_switch",
    "remove_operator",
    "remove_partition",
    "repair",
    "restore_snapshot",
    "rls_questions",
    "roll_up_requests",
    "rollback",
    "rollout_status",
    "run_check",
    "run_status",
    "sample_keys",
    "schedule_changes",
    "set_cohort",
    "set_flag",
    "set_group_stage",
    "set_mirror",
    "set_operator_role",
    "set_setting",
    "set_stage",
    "show_rows",
    "start_backfill",
    "start_rollout",
    "start_verify",
    "take_snapshot",
    "unregister_pair",
    "verify_batch",
    "verify_some",
    "whoami",
)
"""Functions of schema ``crossfade`` that the Data API offers."""
