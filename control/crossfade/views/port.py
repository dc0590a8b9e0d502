"""What people look at, as the database answers it."""

from typing import Protocol

from crossfade.core.values import Key
from crossfade.pairs.model import RowPair
from crossfade.views.doctor import CheckRow, Diagnosis
from crossfade.views.overview import Overview


class Overviews(Protocol):
    """What people look at."""

    def overview(
        self, *, minutes: int = 60, series: str | None = None, totals: bool = False
    ) -> Overview:
        """Return every number people look at; ``series``: the pair to show over time."""

    def roll_up_requests(self, *, max_hours: int = 24) -> bool:
        """Sum some more hours of requests, so that long windows are fast; True: call again."""

    def show_rows(self, pair: str, key: Key) -> RowPair:
        """Return both rows of a key."""


class Doctor(Protocol):
    """The project itself."""

    def diagnose(self) -> Diagnosis:
        """Facts of the database, and how far its clock is ahead of this machine's."""

    def run_check(self, name: str, query: str) -> tuple[CheckRow, ...]:
        """Run one check of ``sql/checks``; the database recognises its text."""
