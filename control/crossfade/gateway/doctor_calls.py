"""What doctor asks: the part of the gateway that looks at the project itself."""

from datetime import UTC, datetime

from crossfade.gateway.api import DataApi
from crossfade.gateway.rows import parse
from crossfade.views.doctor import CheckRow, Diagnosis


class DoctorCalls:
    """Implements ``Doctor``."""

    _api: DataApi

    def diagnose(self) -> Diagnosis:
        """Facts of the database, and how far its clock is ahead of this machine's."""
        before = datetime.now(UTC)
        answer = self._api.rpc("diagnose")
        after = datetime.now(UTC)
        # Half of the way there and back: the answer was made somewhere between the two.
        middle = before + (after - before) / 2
        at = datetime.fromisoformat(str(answer["at"]))
        return parse(Diagnosis, {**answer, "offset_s": (at - middle).total_seconds()})

    def run_check(self, name: str, query: str) -> tuple[CheckRow, ...]:
        """Run one check of ``sql/checks``; the database recognises its text."""
        answer = self._api.rpc("run_check", name=name, query=query)
        return tuple(parse(CheckRow, row) for row in answer["rows"])
