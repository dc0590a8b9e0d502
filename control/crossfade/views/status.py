"""What an operator wants to see first."""

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.views.overview import Overview
from crossfade.views.port import Overviews
from crossfade.views.signals import Concern, NextStep, Signal, find_signals, next_step, worst


@dataclass(frozen=True, slots=True)
class Status:
    """The project at one moment. ``signals``: what needs a person, the worst first."""

    url: str
    source: str
    overview: Overview
    concern: Concern
    signals: tuple[Signal, ...]
    next_steps: Mapping[str, NextStep]


def judge(overview: Overview, *, url: str = "", source: str = "environment") -> Status:
    """Say what an overview means. Pure."""
    signals = find_signals(overview)
    steps = {pair.name: next_step(pair, overview) for pair in overview.pairs}
    return Status(url, source, overview, worst(signals), signals, steps)


def read_status(gateway: Overviews, *, url: str = "", source: str = "environment") -> Status:
    """Read the project; ``source`` says where its address came from."""
    return judge(gateway.overview(), url=url, source=source)
