"""Around the panels: the bar at the top, the choice of charts, the heartbeat."""

from markupsafe import Markup

from crossfade.dashboard.panels.words import button
from crossfade.dashboard.view import RANGES, View


def top(view: View) -> Markup:
    """Which project, who looks, how fresh."""
    watched = ""
    if view.overview and view.overview.monitor.holder:
        watched = Markup("watched by <b>{}</b>").format(view.overview.monitor.holder)
    return Markup(
        '<div class=top><b>crossfade</b><span>{}</span><span>{}</span><a href="#h-kill">'
        "Kill switches</a><span class=fresh></span>"
        "<span>{} ({})</span>{}</div>"
    ).format(
        view.url,
        watched,
        view.person.name,
        view.person.role,
        Markup(
            '<form method=post action="/sign-out"><button type=submit class=quiet>Sign out'
            "</button></form>"
        ),
    )


def charts_head(view: View) -> Markup:
    """Of which pair the charts are, and how far back they go."""
    if not view.choice.pair:
        return Markup("")
    ranges = Markup("").join(
        button(name, "range", minutes=minutes).replace(
            Markup("<button"),
            Markup('<button aria-pressed="{}"').format(
                "true" if minutes == view.choice.minutes else "false"
            ),
        )
        for minutes, name in RANGES.items()
    )
    return Markup(
        '<div class=charts-head><h2>{}</h2><div class=segments role=group aria-label="How far back"'
        ">{}</div>{}</div>"
    ).format(view.choice.pair, ranges, _shares(view))


def _shares(view: View) -> Markup:
    """What the charts say, in words."""
    series = view.series
    if series is None or series.pair != view.choice.pair:
        return Markup("<span class=note>reading…</span>")
    share = series.total.v2_share
    wires = [sum(series.wires.get(version, ())) for version in (1, 2)]
    both = sum(wires)
    text = "no requests" if share is None else f"{share:.1%} of requests went to V2"
    clients = f"; {wires[1] / both:.1%} of clients speak V2" if both else ""
    return Markup('<span class=note data-value="shares">{}{}</span>').format(text, clients)


def beat(view: View, number: int, title: str) -> Markup:
    """Changes every second. When it stops, the page knows that its server is gone."""
    age = f"{view.age_s:.1f}" if view.overview else ""
    return Markup(
        '<span data-beat="{}" data-age="{}" data-stale="{}" data-title="{}"></span>'
    ).format(number, age, int(view.is_stale), title)
