"""What a project's catalog says about its tables, and what a pair would do to them. Records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        type: as SQL writes it, ``numeric(10,2)``.
        base_type: without length, and of a domain the type below it.
        default: SQL expression; None without one.
        generated: SQL expression of a generated column; nobody can write it.
        labels: of an enum, in order.
        sequence: from which the column takes its default.
        checked: a CHECK or foreign key constraint names it, so its values are not free.
    """

    name: str
    type: str
    base_type: str = ""
    not_null: bool = False
    default: str | None = None
    generated: str | None = None
    identity: bool = False
    sequence: str | None = None
    labels: tuple[str, ...] = ()
    checked: bool = False
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint; ``kind`` is PostgreSQL's letter: c check, f foreign key, p, u."""

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParentPair:
    """The pair of a table that a foreign key points to."""

    name: str
    v1_table: str
    v2_table: str
    key: tuple[str, ...]
    v2_key: tuple[str, ...]
    v2_key_types: tuple[str, ...] = ()
    v2_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parent:
    """What a foreign key points to; ``reference`` is that part of its definition."""

    columns: tuple[str, ...]
    table: str
    parent_columns: tuple[str, ...]
    reference: str
    pair: ParentPair | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger of the owner."""

    name: str
    definition: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy; ``using`` and ``check`` are SQL expressions, ``command`` PostgreSQL's letter."""

    name: str
    command: str
    permissive: bool = True
    roles: tuple[str, ...] = ("public",)
    using: str | None = None
    check: str | None = None


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table. ``rows`` is an estimate, ``sample`` holds rows as the Data API shows them.

    Attributes:
        key: its primary key; in the draft of a pair, the key of the pair.
        keys: what a pair of it could be keyed by.
    """

    table: str
    schema: str = "public"
    name: str = ""
    key: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    parents: tuple[Parent, ...] = ()
    columns: tuple[Column, ...] = ()
    row_security: bool = False
    pair: str | None = None
    sample: Sequence[Row] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    referenced_by: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()
    grants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows: int = 0
    analyzed: bool = True
    bytes: int = 0
    index_bytes: int = 0
    side: int = 0

    def column(self, name: str) -> Column | None:
        """Return the column of a name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Measured:
    """How fast a sample was converted into a temporary table."""

    rows: int = 0
    elapsed_ms: float | None = None
    rows_per_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """One step of a migration: what it runs, and what it locks for how long."""

    step: str
    command: str
    does: str
    lock: str
    held: str


@dataclass(frozen=True, slots=True)
class OwnerStep:
    """One step of a change of a table; ``state`` is done, next, running, broken or waiting."""

    step: str
    state: str
    does: str
    lock: str
    held: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class OwnerFile:
    """A migration that may be applied now."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class CarryPlan:
    """How a table comes to carry a uuid as a key, and how far it is.

    Attributes:
        triggers: of the owner, which filling would fire.
        files: those that may be applied now, in order.
    """

    table: str
    column: str
    key: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    pair: str | None = None
    steps: tuple[OwnerStep, ...] = ()
    files: tuple[OwnerFile, ...] = ()

    @property
    def next(self) -> OwnerStep | None:
        """The first step that is not done."""
        return next((step for step in self.steps if step.state != "done"), None)


@dataclass(frozen=True, slots=True)
class RelabelPlan:
    """How a table becomes the first partition of one of its name, and how far it is.

    Attributes:
        bound: SQL of the value at which the first partition ends.
        first: name that the table will have.
        rest: name of the partition for all other rows.
        files: those that may be applied now, in order.
    """

    table: str
    column: str
    first: str
    rest: str
    bound: str | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    steps: tuple[OwnerStep, ...] = ()
    files: tuple[OwnerFile, ...] = ()

    @property
    def next(self) -> OwnerStep | None:
        """The first step that is not done."""
        return next((step for step in self.steps if step.state != "done"), None)


@dataclass(frozen=True, slots=True)
class PlanSql:
    """The statements that will run."""

    backfill: str = ""
    triggers: tuple[str, ...] = ()
    trigger_functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something that depends on V1: what it would break, and a command that mends or shows it."""

    kind: str
    object: str
    owner: str
    breaks: str
    command: str
    is_ignored: bool = False


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Something that depends on V1, and whether the migration lets it depend on V2.

    Attributes:
        is_repointed: the migration does it; else ``reason`` says why not.
        columns: of V1, which it reads and V2 does not have as they are.
    """

    kind: str
    object: str
    breaks: str
    owner: str | None = None
    is_ignored: bool = False
    is_repointed: bool = False
    reason: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handover:
    """What depends on V1, and the migration that hands it over to V2.

    Attributes:
        check_sql: for a transaction after that of ``sql``; None when there is nothing to check.
    """

    pair: str
    stage: str
    v1_table: str = ""
    v2_table: str = ""
    objects: tuple[HandedOver, ...] = ()
    sql: str | None = None
    check_sql: str | None = None


@dataclass(frozen=True, slots=True)
class PairPlan:
    """What taking a pair through the stages will do, measured before anything is switched on."""

    pair: str
    stage: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dependents: tuple[Dependent, ...] = ()
    tables: tuple[TableInfo, ...] = ()
    oldest_transaction_s: float | None = None
    measured: Measured = field(default_factory=Measured)
    steps: tuple[MigrationStep, ...] = ()
    sql: PlanSql = field(default_factory=PlanSql)

    @property
    def estimate_s(self) -> float | None:
        """Seconds of the backfill at the measured speed; None when it is not known."""
        speed = self.measured.rows_per_s
        return self.tables[0].rows / speed if speed and self.tables else None
