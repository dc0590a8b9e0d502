"""The picture of a demo: requests a second by backend, latency, and what the operator did when."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossfade.demo.meter import Second

COLOURS = {1: "#3b6ea5", 2: "#d97b29", 0: "#b3261e"}
NAMES = {1: "backend 1", 2: "backend 2", 0: "no answer"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at_s: Seconds since the clients' meter was made.
        text: A few words.
    """

    at_s: float
    text: str


def draw(path: Path, seconds: Sequence[Second], events: Sequence[Event]) -> None:
    """Write the picture as SVG (text stays text)."""
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
        rates.stackplot(
            at,
            [[second.by_backend.get(backend, 0) for second in seconds] for backend in backends],
            labels=[NAMES[backend] for backend in backends],
            colors=[COLOURS[backend] for backend in backends],
        )
        rates.set_ylabel("requests / s")
        for backend in [backend for backend in backends if backend]:
            served = [second for second in seconds if backend in second.by_backend]
            times = [second.at_s for second in served]
            latency.plot(
                times,
                [second.p50_ms[backend] for second in served],
                color=COLOURS[backend],
                label=f"{NAMES[backend]} p50",
            )
            latency.plot(
                times,
                [second.p95_ms[backend] for second in served],
                color=COLOURS[backend],
                alpha=0.45,
                linestyle=":",
                label=f"{NAMES[backend]} p95",
            )
        latency.set_yscale("log")
        latency.set_ylabel("latency, ms")
        latency.set_xlabel("seconds")
        for axes in (rates, latency):
            axes.legend(loc="upper left", fontsize="small")
        names.set_axis_off()
        for number, event in enumerate(events):
            for axes in (rates, latency):
                axes.axvline(event.at_s, color="#555555", linewidth=0.6, alpha=0.6)
            # Four heights in turn, so that neighbours can both be read.
            names.text(event.at_s, 0.05 + 0.24 * (number % 4), event.text, fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})
