"""A dashboard on made-up numbers that change at every look, fast-forwarded. Prints its link."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from datetime import timedelta

from crossfade.core.contract import Outcome
from crossfade.dashboard.actions import Actions
from crossfade.dashboard.app import make_dashboard
from crossfade.dashboard.feed import Feed
from crossfade.dashboard.page import Door
from crossfade.dashboard.view import Viewer
from crossfade.health.verdicts import Verdict
from crossfade.testing import NOW, FakeGateway
from crossfade.views.overview import BackendSeries, Happening, Overview, Series, Traffic
from tests.unit.test_signals import backend, overview, pair

PAIRS = [f"pair_{number}" for number in range(5)]
RULES = ("R1", "R2", "R3", "R4", "R5", "R7", "R8", "R9", "R10", "R11")


class Moving(FakeGateway):
    """Another overview at every look."""

    turns = 0

    def overview(
        self,
        *,
        minutes: int = 60,  # noqa: ARG002
        series: str | None = None,
        totals: bool = False,  # noqa: ARG002
    ) -> Overview:
        self.turns += 1
        dice = random.Random(self.turns)
        at = NOW + timedelta(seconds=self.turns)

        def some() -> BackendSeries:
            counts = tuple(dice.randint(1, 900) for _ in range(180))
            slow = tuple(dice.random() * 900 for _ in range(180))
            none = (0,) * 180
            return BackendSeries(counts, none, none, none, slow, slow, slow)

        pairs = tuple(
            pair(
                name=name,
                traffic=Traffic(
                    backends={
                        v: backend(dice.randint(900, 9000), dice.randint(0, 9)) for v in (1, 2)
                    }
                ),
                verdicts=tuple(Verdict(r, Outcome.PASS, f"{dice.random()}", at=at) for r in RULES),
            )
            for name in PAIRS
        )
        timeline = tuple(
            Happening(self.turns - i, at, "ada", "cohort.update", "pair_1", f"look {self.turns}")
            for i in range(60)
        )
        shown = overview(*pairs, timeline=timeline, at=at)
        shown = replace(shown, monitor=replace(shown.monitor, heartbeat_at=at))
        if series is None:
            return shown
        window = timedelta(seconds=180 * 120)
        return replace(
            shown, series=Series(series, at - window, at, 120, 180, {1: some(), 2: some()})
        )


def main(every_s: float) -> None:
    """Serve until killed."""
    gateway = Moving()
    feed = Feed(gateway, interval_s=every_s)
    feed.start()
    served = make_dashboard(
        door=Door("http://rehearsal", feed, Actions(gateway)),
        person=Viewer("ada", "admin"),
        scraper=None,
        port=0,
        refresh_s=every_s,
    )
    print(served.link, flush=True)
    served.run()


if __name__ == "__main__":
    main(float(sys.argv[1]))
