"""Kill switches. Engaging is one deliberate gesture: press and hold."""

from markupsafe import Markup

from crossfade.dashboard.panels.words import button, moment
from crossfade.dashboard.view import View
from crossfade.flags.model import KillSwitch


def render(view: View) -> Markup:
    """One row a switch; the engaged ones first, then those that stop V2."""
    if view.overview is None:
        return Markup("")
    order = sorted(view.overview.kill_switches, key=lambda s: (not s.engaged, not s.fences, s.name))
    rows = Markup("").join(_row(switch, may_act=view.person.may_act) for switch in order)
    note = (
        "Press and hold for a second, or press Enter twice."
        if view.person.may_act
        else "Your role cannot engage them."
    )
    return Markup(
        "<section aria-labelledby=h-kill><h2 id=h-kill>Kill switches</h2>"
        "<p class=note id=hold-note>{}</p><ul class=switches>{}</ul></section>"
    ).format(note, rows)


def _row(switch: KillSwitch, *, may_act: bool) -> Markup:
    if switch.engaged:
        state = Markup("<b>✖ engaged</b> by {} {}{}").format(
            switch.engaged_by or "somebody",
            moment(switch.engaged_at),
            f": {switch.reason}" if switch.reason else "",
        )
    else:
        state = Markup("")
    act = Markup("")
    if may_act and switch.engaged:
        act = button("Release…", "ask_release", name=switch.name, label=f"Release {switch.name}")
    elif may_act:
        act = Markup(
            '<button type=button class=hold data-hold=engage data-key="engage:{0}"'
            ' data-name="{0}" aria-describedby=hold-note aria-label="Hold to engage {0}">'
            "<span>Hold to engage</span></button>"
        ).format(switch.name)
    return Markup(
        '<li class="{}" data-switch="{}"><div><code>{}</code>{} <span class=off>{}</span>'
        "<small>{}</small>{}</div>{}</li>"
    ).format(
        "engaged" if switch.engaged else "released",
        switch.name,
        switch.name,
        Markup(" <em>only {}</em>").format(switch.pair) if switch.pair else "",
        "" if switch.engaged else "off",
        switch.description or "",
        state,
        act,
    )
