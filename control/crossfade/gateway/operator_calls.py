"""Who asks, and operators: the part of the gateway that knows people."""

from crossfade.core.contract import OperatorRole
from crossfade.gateway.api import DataApi
from crossfade.gateway.rows import parse
from crossfade.people.model import Caller, Operator, OperatorChanged


class OperatorCalls:
    """Implements ``Operators``."""

    _api: DataApi

    def whoami(self) -> Caller:
        """Return who asks; refuses somebody who is signed in and no operator."""
        return self._api.ask(Caller, "whoami")

    def list_operators(self) -> tuple[Operator, ...]:
        """Return all of them, the newest first."""
        rows = self._api.select("operators", limit=1000, order="added_at")
        return tuple(parse(Operator, row) for row in rows)

    def add_operator(self, who: str, role: OperatorRole, *, reason: str) -> OperatorChanged:
        """Let a user of Supabase Auth operate."""
        return self._api.ask(OperatorChanged, "add_operator", who=who, role=role, reason=reason)

    def set_operator_role(self, who: str, role: OperatorRole, *, reason: str) -> OperatorChanged:
        """Change a role from the next request on."""
        return self._api.ask(
            OperatorChanged, "set_operator_role", who=who, role=role, reason=reason
        )

    def remove_operator(self, who: str, *, reason: str) -> Operator:
        """Take all rights away; the user stays."""
        answer = self._api.rpc("remove_operator", who=who, reason=reason)
        return parse(Operator, answer["operator"])
