"""Reading what people look at: the overview, the rows behind a difference."""

from typing import Any

from crossfade.core.values import Key
from crossfade.gateway.api import DataApi
from crossfade.gateway.rows import Json, parse
from crossfade.pairs.model import RowPair
from crossfade.views.overview import Overview


class OverviewReads:
    """The part of ``SupabaseGateway`` that implements ``Overviews``."""

    _api: DataApi

    def overview(
        self, *, minutes: int = 60, series: str | None = None, totals: bool = False
    ) -> Overview:
        """Return every number people look at, read at one moment."""
        answer = self._api.rpc("overview", minutes=minutes, series=series, totals=totals)
        return parse(Overview, _readable(answer))

    def roll_up_requests(self, *, max_hours: int = 24) -> bool:
        """Sum some more hours of requests; True when more are left."""
        answer = self._api.rpc("roll_up_requests", max_hours=max_hours)
        return answer.get("state") == "running"

    def show_rows(self, pair: str, key: Key) -> RowPair:
        """Return both rows of a key, as the user's tables hold them."""
        return self._api.ask(RowPair, "show_rows", pair=pair, key=dict(key))


def _readable(answer: Json) -> Json:
    """Put names where the records have them, and leave out what is null."""
    found: Json = {name: _without_nulls(value) for name, value in answer.items()}
    for pair in found.get("pairs", ()):
        for verdict in pair.get("verdicts", ()):
            verdict["message"] = verdict.get("details", {}).get("message", "")
    return found


def _without_nulls(value: Any) -> Any:
    # Only in objects: a null in an array is a point without a value.
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
