"""What the audit and operators need of the database."""

from typing import Protocol

from crossfade.core.contract import OperatorRole
from crossfade.people.model import AuditEntry, Caller, Operator, OperatorChanged


class Audit(Protocol):
    """Who changed what."""

    def list_audit(self, *, limit: int = 50, name: str | None = None) -> tuple[AuditEntry, ...]:
        """Return audit rows, newest first."""


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
