"""Operators and health of a fake project."""

from crossfade.core.contract import ErrorCode, OperatorRole
from crossfade.core.errors import refusal
from crossfade.people.model import Caller, Operator, OperatorChanged
from crossfade.testing.state import FakeState
from crossfade.views.doctor import CheckRow, Diagnosis


class FakePeople(FakeState):
    """Implements ``Operators`` and ``Doctor``."""

    def whoami(self) -> Caller:
        """The ``caller`` of the fake."""
        self._called("whoami")
        return self.caller

    def list_operators(self) -> tuple[Operator, ...]:
        """All."""
        self._called("list_operators")
        return tuple(self.operators.values())

    def add_operator(self, who: str, role: OperatorRole, *, reason: str) -> OperatorChanged:
        """Add."""
        self._called("add_operator", who, role, reason)
        found = self.operators.get(who)
        if found is not None and found.role is not role:
            raise refusal(ErrorCode.INVALID_ARGUMENT, f'Cannot add "{who}": it is {found.role}')
        self.operators[who] = Operator(who, role, who)
        return OperatorChanged(self.operators[who], found is None)

    def set_operator_role(self, who: str, role: OperatorRole, *, reason: str) -> OperatorChanged:
        """Change."""
        self._called("set_operator_role", who, role, reason)
        before = self._operator(who)
        self._keeps_an_admin(who, role)
        self.operators[who] = Operator(who, role, who)
        return OperatorChanged(self.operators[who], before.role is not role)

    def remove_operator(self, who: str, *, reason: str) -> Operator:
        """Remove."""
        self._called("remove_operator", who, reason)
        self._operator(who)
        self._keeps_an_admin(who, None)
        return self.operators.pop(who)

    def diagnose(self) -> Diagnosis:
        """A healthy database, unless ``diagnosis`` says otherwise."""
        self._called("diagnose")
        return self.diagnosis

    def run_check(self, name: str, query: str) -> tuple[CheckRow, ...]:
        """What ``check_rows`` has for it."""
        self._called("run_check", name, query)
        return self.check_rows.get(name, ())

    def _operator(self, who: str) -> Operator:
        if who not in self.operators:
            raise refusal(ErrorCode.UNKNOWN_OPERATOR, f'No operator "{who}"')
        return self.operators[who]

    def _keeps_an_admin(self, who: str, role: OperatorRole | None) -> None:
        admins = {name for name, o in self.operators.items() if o.role is OperatorRole.ADMIN}
        if admins == {who} and role is not OperatorRole.ADMIN:
            raise refusal(ErrorCode.LAST_ADMIN, f'Cannot change "{who}": it is the last admin')
