"""Where every panel is, in reading order. Pure.

Said once for both pages there are: the one in the first answer, which needs no script to be read,
and the one of elements that takes its place as soon as the scripts run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

_NO_ATTRIBUTES: Final = Markup("")


@dataclass(frozen=True, slots=True)
class Box:
    """An element. ``name``: what fills it; only boxes without a name hold others.

    ``attributes`` as HTML and NiceGUI both read them: without quotes and spaces in values.
    """

    name: str = ""
    inside: tuple["Box", ...] = ()
    tag: str = "div"
    classes: str = ""
    attributes: Markup = _NO_ATTRIBUTES


CHARTS: Final = ("share", "errors", "latency")
_FIRST = Box(classes="first", inside=(Box("pairs"), Box("switches", classes="box")))
_GRID = Box(classes="grid", inside=tuple(Box(name, classes="chart") for name in CHARTS))
_TWO = Box(classes="two", inside=(Box("runs"), Box("features")))
_LIVE = Box(
    classes="live",
    inside=(
        _FIRST,
        Box("charts-head"),
        _GRID,
        Box("facts", classes="box"),
        _TWO,
        *map(Box, ("rules", "differences", "timeline")),
    ),
)
LAYOUT: Final = Box(
    attributes=Markup("id=page"),
    inside=(
        Box("lost", attributes=Markup("id=lost role=alert")),
        Box(inside=(Box("top", tag="header"), Box("headline"), _LIVE)),
        Box("dialog", attributes=Markup("id=dialog")),
        Box("notice", attributes=Markup("id=notice role=status aria-live=assertive")),
        Box("beat", attributes=Markup("id=beat hidden")),
    ),
)


def as_html(box: Box, content: Mapping[str, Markup]) -> Markup:
    """The page without scripts; ``content`` by the names of the boxes, missing ones are empty."""
    inner = content.get(box.name, Markup(""))
    inner += Markup("").join(as_html(part, content) for part in box.inside)
    return Markup('<{0} class="{1}" {2}>{3}</{0}>').format(
        box.tag, box.classes, box.attributes, inner
    )
