"""The picture of a demo: requests a second by backend, latency, and what the operator did when."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from crossfade.demo.meter import Second

COLOURS = {1: "#3b6ea5", 2: "#d97b29", 0: "#b3261e"}
NAMES = {1: "backend 1", 2: "backend 2", 0: "no answer"}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened.

    Attributes:
        at_s: Seconds since the clients' meter was made.
        text: A few words.
    """

    at_s: float
    text: str


def merge(events: Sequence[Moment], *, within_s: float = 1.0) -> list[Moment]:
    """Put events of the same moment into one, so that their texts do not cover each other."""
    merged: list[Moment] = []
    for event in events:
        if merged and event.at_s - merged[-1].at_s < within_s:
            merged[-1] = Moment(merged[-1].at_s, f"{merged[-1].text}, {event.text}")
        else:
            merged.append(event)
    return merged


def draw(path: Path, seconds: Sequence[Second], events: Sequence[Moment]) -> None:
    """Write the picture; the name says in which format (in SVG text stays text)."""
    # At the call and not at import: half a second that no other command should pay.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crossfade"}):
        figure = Figure(figsize=(14, 7), layout="constrained")
        names, rates, latency = figure.subplots(
            3, 1, sharex=True, gridspec_kw={"height_ratios": [1.1, 2, 2]}
        )
        at = [second.at_s for second in seconds]
        backends = sorted({backend for second in seconds for backend in second.by_backend})
        if backends:  # a demo that stopped early has no requests
            rates.stackplot(
                at,
                [[second.by_backend.get(backend, 0) for second in seconds] for backend in backends],
                labels=[NAMES[backend] for backend in backends],
                colors=[COLOURS[backend] for backend in backends],
            )
        rates.set_ylabel("requests / s")
        for backend in [backend for backend in backends if backend]:
            # NaN where a backend served nobody: a line across would be an invention.
            for values, name, style in (
                ([second.p50_ms.get(backend, nan) for second in seconds], "p50", "-"),
                ([second.p95_ms.get(backend, nan) for second in seconds], "p95", ":"),
            ):
                latency.plot(
                    at,
                    values,
                    style,
                    color=COLOURS[backend],
                    alpha=1.0 if name == "p50" else 0.5,
                    label=f"{NAMES[backend]} {name}",
                )
        if backends:
            latency.set_yscale("log")
        latency.set_ylabel("latency, ms")
        latency.set_xlabel("seconds")
        for axes in (rates, latency) if backends else ():
            axes.legend(loc="upper left", fontsize="small")
        names.set_axis_off()
        for number, event in enumerate(merge(events)):
            for axes in (rates, latency):
                axes.axvline(event.at_s, color="#555555", linewidth=0.6, alpha=0.6)
            # Four heights in turn, so that neighbours can both be read.
            names.text(event.at_s, 0.05 + 0.24 * (number % 4), event.text, fontsize=8)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
