"""What people look at in a fake project."""

from dataclasses import fields

from crossfade.core.values import Key
from crossfade.pairs.model import RowPair
from crossfade.testing.state import NOW, FakeState
from crossfade.views.overview import MonitorLife, Overview, PairOverview, RollbackLog, RollbackNote


class FakeViews(FakeState):
    """Implements ``Overviews``."""

    def overview(
        self, *, minutes: int = 60, series: str | None = None, totals: bool = False
    ) -> Overview:
        """``shown`` when a test has set it, else what the fake holds, without any traffic."""
        self._called("overview", minutes, series, totals)
        if self.shown is not None:
            return self.shown
        return Overview(
            at=NOW,
            flags_version=self.version,
            minutes=minutes,
            pairs=tuple(self._shown_pair(name) for name in sorted(self.pairs)),
            kill_switches=tuple(self.kill_switches[name] for name in sorted(self.kill_switches)),
            settings=self.settings,
            monitor=MonitorLife(NOW, "fake"),
            rollbacks=RollbackLog(
                len(self.rollbacks),
                tuple(
                    RollbackNote(r.id, r.at, r.actor, r.level, r.scope, r.reason, r.automatic)
                    for r in self.rollbacks
                ),
            ),
        )

    def _shown_pair(self, name: str) -> PairOverview:
        pair = self._pair(name)
        runs = tuple(r for r in self.runs.values() if r.pair == name and not r.state.is_over)
        held = {item.name: getattr(pair, item.name) for item in fields(pair)} | {"runs": runs}
        return PairOverview(**held, verdicts=self.verdicts.get(name, ()))

    def roll_up_requests(self, *, max_hours: int = 24) -> bool:
        """Nothing to sum."""
        self._called("roll_up_requests", max_hours)
        return False

    def show_rows(self, pair: str, key: Key) -> RowPair:
        """No rows."""
        self._called("show_rows", pair, key)
        self._pair(pair)
        return RowPair(pair, key)
