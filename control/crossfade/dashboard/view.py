"""What a panel sees. Pure."""

from dataclasses import dataclass
from datetime import datetime

from crossfade.core.contract import Stage
from crossfade.views.overview import Overview, PairOverview, Series
from crossfade.views.signals import Signal, find_signals

RANGES = {60: "1 h", 360: "6 h", 1440: "24 h", 10080: "7 days", 43200: "30 days"}
"""Minutes that the charts can show, with their names."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What one person looks at: the pair of the charts (empty: the first) and how far back."""

    pair: str = ""
    minutes: int = 60


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. ``role``: viewer, operator or admin."""

    name: str
    role: str

    @property
    def may_act(self) -> bool:
        """True when buttons are for this person."""
        return self.role in ("operator", "admin")


@dataclass(frozen=True, slots=True)
class View:
    """One moment of one page. ``overview`` None: the project was never read.

    ``age_s`` is how old the overview is, ``error`` why it could not be read since.
    """

    url: str
    person: Viewer
    choice: Selection = Selection()
    overview: Overview | None = None
    series: Series | None = None
    age_s: float = 0.0
    error: str = ""
    stale_s: float = 10.0

    @property
    def is_stale(self) -> bool:
        """True when the numbers must not be taken for current ones."""
        return self.overview is not None and (bool(self.error) or self.age_s > self.stale_s)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What needs a person, the worst first."""
        return find_signals(self.overview) if self.overview else ()

    @property
    def pairs(self) -> tuple[PairOverview, ...]:
        """Those with traffic on V2 first. Never by trouble: nothing moves under a finger."""
        found = self.overview.pairs if self.overview else ()
        order = (
            Stage.LIVE,
            Stage.RAMPDOWN,
            Stage.SHADOW,
            Stage.DUALWRITE,
            Stage.COMPLETE,
            Stage.RETIRED,
        )
        return tuple(
            sorted(found, key=lambda p: order.index(p.stage) if p.stage in order else len(order))
        )

    @property
    def at(self) -> datetime | None:
        """The database's clock when it was read."""
        return self.overview.at if self.overview else None
