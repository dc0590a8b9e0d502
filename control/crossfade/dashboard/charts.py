"""ECharts options: share of requests by version, error rate, latency. Pure."""

from datetime import timedelta
from typing import Any, Final

from crossfade.views.overview import BackendSeries, Series

Options = dict[str, Any]

# Okabe and Ito's colours, which people with any kind of colour blindness can tell apart; lines also
# differ in dash and symbol.
V1: Final = "#0072B2"
V2: Final = "#E69F00"
FALLBACK: Final = "#CC79A7"
LIMIT: Final = "#D55E00"
_TITLES = ("Requests by version", "Error rate", "Latency")


def share(series: Series | None) -> Options:
    """Requests of each version over time, stacked; fallbacks apart."""
    lines = []
    if series:
        v1, v2 = _backend(series, 1), _backend(series, 2)
        served = [r - f for r, f in zip(v2.requests, v2.fallbacks, strict=True)]
        lines = [
            _area("served by V1", V1, _points(series, list(v1.requests))),
            _area("served by V2", V2, _points(series, served)),
            _area("V2 fell back to V1", FALLBACK, _points(series, list(v2.fallbacks))),
        ]
    return _chart(_TITLES[0], "requests", lines)


def errors(series: Series | None, *, warn_rate: float | None, bad_rate: float | None) -> Options:
    """Error rate of each version in per cent, with the limits drawn in."""
    lines = []
    if series:
        for version, colour in ((1, V1), (2, V2)):
            backend = _backend(series, version)
            rates = [
                round(100 * e / r, 3) if r else None
                for e, r in zip(backend.errors, backend.requests, strict=True)
            ]
            lines.append(_line(f"V{version}", colour, _points(series, rates), dashed=version == 2))
        _limits(lines[-1], {"warning": _pct(warn_rate), "critical": _pct(bad_rate)})
    return _chart(_TITLES[1], "%", lines, _top(lines, _pct(bad_rate)))


def latency(series: Series | None, *, bad_ms: float | None, ratio: float | None) -> Options:
    """p50 and p95 of each version in ms; the limits are absolute and relative to V1."""
    lines: list[Options] = []
    limits: dict[str, float | None] = {}
    if series:
        for version, colour in ((1, V1), (2, V2)):
            backend = _backend(series, version)
            for name, values in (("p50", backend.p50_ms), ("p95", backend.p95_ms)):
                points = _points(series, list(values))
                label = f"V{version} {name}"
                lines.append(_line(label, colour, points, dashed=version == 2, thin=name == "p50"))
        usual = series.total.backend(1).p95_ms
        limits = {"critical": bad_ms if _is_near(series, bad_ms) else None}
        if usual and ratio:
            limits[f"{ratio:g}x V1"] = usual * ratio
        _limits(lines[-1], limits)
    return _chart(_TITLES[2], "ms", lines, _top(lines, *limits.values()))


def _top(lines: list[Options], *limits: float | None) -> float | None:
    """The end of the axis: above everything, so that every limit is on the picture."""
    seen = [value for line in lines for _, value in line["data"] if value is not None]
    wanted = max([*seen, *(limit for limit in limits if limit)], default=0)
    return round(wanted * 1.15, 1) if wanted else None


def _is_near(series: Series, limit: float | None) -> bool:
    """A limit far above everything would flatten the lines."""
    seen = [v for b in series.backends.values() for v in b.p95_ms if v is not None]
    return limit is not None and bool(seen) and max(seen) > limit / 4


def _backend(series: Series, version: int) -> BackendSeries:
    found = series.backends.get(version)
    empty = (0,) * series.points
    none = (None,) * series.points
    return found or BackendSeries(empty, empty, empty, empty, none, none, none)


def _points(series: Series, values: list[Any]) -> list[list[Any]]:
    step = timedelta(seconds=series.width_s)
    return [
        [int((series.since + step * at).timestamp() * 1000), value]
        # Not the last one, which is still filling and would look like a fall.
        for at, value in enumerate(values[: max(1, series.points - 1)])
    ]


def _pct(rate: float | None) -> float | None:
    return None if rate is None else rate * 100


def _line(
    name: str, colour: str, data: list[list[Any]], *, dashed: bool = False, thin: bool = False
) -> Options:
    return {
        "name": name,
        "type": "line",
        "data": data,
        "showSymbol": False,
        "symbol": "rect" if dashed else "circle",
        "color": colour,
        "lineStyle": {"width": 1 if thin else 2, "type": "dashed" if dashed else "solid"},
        "connectNulls": False,
    }


def _area(name: str, colour: str, data: list[list[Any]]) -> Options:
    return _line(name, colour, data) | {"stack": "requests", "areaStyle": {"opacity": 0.55}}


def _limits(line: Options, limits: dict[str, float | None]) -> None:
    marks = [{"yAxis": value, "name": name} for name, value in limits.items() if value is not None]
    line["markLine"] = {
        "silent": True,
        "symbol": "none",
        "data": marks,
        "label": {"formatter": "{b}", "position": "insideEndTop"},
        "lineStyle": {"color": LIMIT, "type": "dotted", "width": 2},
    }


def _chart(title: str, unit: str, lines: list[Options], top: float | None = None) -> Options:
    grey = "rgba(128,128,128,.35)"
    axis = {"axisLine": {"lineStyle": {"color": grey}}, "splitLine": {"lineStyle": {"color": grey}}}
    return {
        "title": {"text": title, "textStyle": {"fontSize": 14}, "left": 0, "top": 3, "padding": 0},
        "animation": False,
        "grid": {"left": 46, "right": 16, "top": 68, "bottom": 24},
        "legend": {
            "top": 25,
            "left": 0,
            "padding": 0,
            "itemHeight": 8,
            "itemWidth": 20,
            "itemGap": 8,
            "data": [line["name"] for line in lines],
        },
        "tooltip": {"trigger": "axis", "confine": True},
        "aria": {"enabled": True, "decal": {"show": True}},
        "xAxis": {
            "type": "time",
            **axis,
            "splitLine": {"show": False},
            "splitNumber": 4,
            "axisLabel": {"hideOverlap": True, "formatter": {"year": "{yyyy}", "day": "{d} {MMM}"}},
        },
        "yAxis": {
            "type": "value",
            "name": unit,
            "min": 0,
            "nameGap": 6,
            **axis,
            **({} if top is None else {"max": top}),
        },
        "series": lines,
    }
