"""Is anything wrong? The first sentence of the page."""

from markupsafe import Markup

from crossfade.dashboard.panels.words import count, duration, moment, rate
from crossfade.dashboard.view import View
from crossfade.views.signals import Concern, Signal

_SHOWN = 4
_MARKS = {Concern.FINE: "✓", Concern.ATTENTION: "▲", Concern.WRONG: "✖"}


def render(view: View) -> Markup:
    """The verdict in one line, what needs a person below it."""
    if view.overview is None:
        if not view.error:
            return _box("unknown", "…", "Reading the project", "")
        text = Markup("{} Nothing is known about it.").format(view.error)
        return _box("unknown", "?", "Project unreachable", text)
    if view.is_stale:
        text = Markup("{}. <strong>What you see is what was true {} ago</strong>, at {}.").format(
            view.error.rstrip("."), duration(view.age_s), moment(view.at)
        )
        return _box("unknown", "?", "Project unreachable", text)
    signals = view.signals
    if not signals:
        return _box("fine", _MARKS[Concern.FINE], "All is well", _quiet(view))
    wrong = sum(signal.concern is Concern.WRONG for signal in signals)
    rest = len(signals) - wrong
    parts = []
    if wrong:
        parts.append("1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong")
    if rest:
        thing = "" if wrong else " thing" if rest == 1 else " things"
        parts.append(f"{rest}{thing} {'needs' if rest == 1 else 'need'} attention")
    sentence = ", ".join(parts)
    items = Markup("").join(_item(signal) for signal in signals[:_SHOWN])
    more = len(signals) - _SHOWN
    tail = Markup("<li>and {} more, below</li>").format(more) if more > 0 else Markup("")
    concern = Concern.WRONG if wrong else Concern.ATTENTION
    return _box(
        concern.value, _MARKS[concern], sentence, Markup("<ul>{}{}</ul>").format(items, tail)
    )


def title(view: View) -> str:
    """What the browser's tab says."""
    if view.overview is None or view.is_stale:
        return "? crossfade: unreachable"
    signals = view.signals
    wrong = sum(signal.concern is Concern.WRONG for signal in signals)
    if wrong:
        return f"✖ {wrong} wrong, crossfade"
    return f"▲ {len(signals)} crossfade" if signals else "✓ crossfade"


def _box(state: str, mark: str, text: str, more: Markup | str) -> Markup:
    return Markup(
        '<section class="headline {}" role=status aria-live=polite aria-atomic=true>'
        "<span class=mark aria-hidden=true>{}</span><div><h1>{}</h1>{}</div></section>"
    ).format(state, mark, text, more)


def _item(signal: Signal) -> Markup:
    since = Markup(" <span class=since>since {}</span>").format(moment(signal.since))
    way_out = Markup(" <code>{}</code>").format(signal.way_out)
    return Markup('<li class="{}"><span class=mark aria-hidden=true>{}</span> {}{}{}</li>').format(
        signal.concern.value,
        _MARKS[signal.concern],
        signal.text,
        since if signal.since else "",
        way_out if signal.way_out else "",
    )


def _quiet(view: View) -> Markup:
    assert view.overview is not None
    pairs = view.overview.pairs
    if not pairs:
        return Markup("<p>No pair is registered yet: <code>crossfade pair register</code></p>")
    served = sum(pair.traffic.backend(v).requests for pair in pairs for v in (1, 2))
    errors = sum(pair.traffic.backend(v).errors for pair in pairs for v in (1, 2))
    word = "pair" if len(pairs) == 1 else "pairs"
    return Markup("<p>{} {}. In the last minutes {} requests, {} of them failed.</p>").format(
        len(pairs), word, count(served), rate(errors / served if served else None)
    )
