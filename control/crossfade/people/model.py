"""Operators: people who sign in, and the role an admin gave them."""

from dataclasses import dataclass
from datetime import datetime

from crossfade.core.contract import (
    OperatorRole,
)
from crossfade.core.values import JsonText


@dataclass(frozen=True, slots=True)
class Operator:
    """One person with rights. ``email`` None: added by user id only."""

    user_id: str
    role: OperatorRole
    email: str | None = None
    added_at: datetime | None = None
    added_by: str | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None

    @property
    def name(self) -> str:
        """The address, else the user id."""
        return self.email or self.user_id


@dataclass(frozen=True, slots=True)
class OperatorChanged:
    """What a change made of an operator; ``changed`` False: it was like that."""

    operator: Operator
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. With the secret key there is no user and no role: it may do everything."""

    actor: str
    user_id: str | None = None
    role: OperatorRole | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, when and why. ``before`` and ``after`` are JSON text."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    reason: str | None = None
    flags_version: int = 0
    before: JsonText = ""
    after: JsonText = ""
    actor_id: str | None = None
