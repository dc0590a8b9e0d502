"""Dialogs: what will change, why it is asked, and the button that does it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

REASON = Markup(
    "<label>Why? It is kept in the audit.<textarea name=reason rows=2 required maxlength=500>"
    "</textarea></label>"
)


@dataclass(frozen=True, slots=True)
class Dialog:
    """A question. ``action`` is what its button asks the server for, with ``data`` and the form.

    ``action`` empty: nothing to do but to close it.
    """

    title: str
    body: Markup
    action: str = ""
    submit: str = ""
    danger: bool = False
    data: Mapping[str, str] = field(default_factory=dict)


def render(dialog: Dialog | None) -> Markup:
    """The open dialog, or nothing."""
    if dialog is None:
        return Markup("")
    hidden = Markup("").join(
        Markup('<input type=hidden name="{}" value="{}">').format(name, value)
        for name, value in dialog.data.items()
    )
    go = Markup("")
    if dialog.action:
        go = Markup('<button type=submit class="{}">{}</button>').format(
            "danger" if dialog.danger else "primary", dialog.submit
        )
    return Markup(
        '<dialog aria-labelledby=h-dialog><form method=dialog data-action="{}">'
        "<h2 id=h-dialog>{}</h2>{}{}<div class=buttons>"
        "<button type=button data-action=close data-key=close>{}</button>{}</div></form></dialog>"
    ).format(
        dialog.action,
        dialog.title,
        hidden,
        dialog.body,
        "Cancel" if dialog.action else "Close",
        go,
    )


def lines(items: Iterable[str]) -> Markup:
    """A list of sentences."""
    body = Markup("").join(Markup("<li>{}</li>").format(item) for item in items)
    return Markup("<ul class=plan>{}</ul>").format(body)


def side_by_side(v1: Mapping[str, object] | None, v2: Mapping[str, object] | None) -> Markup:
    """Both rows of a key, column by column."""
    names = [*(v1 or {}), *(name for name in v2 or {} if name not in (v1 or {}))]
    rows = Markup("").join(
        Markup("<tr><th scope=row>{}</th><td><pre>{}</pre></td><td><pre>{}</pre></td></tr>").format(
            name, _cell(v1, name), _cell(v2, name)
        )
        for name in names
    )
    return Markup(
        "<div class=scroll><table><thead><tr><th scope=col>Column</th><th scope=col>V1{}</th>"
        "<th scope=col>V2{}</th></tr></thead><tbody>{}</tbody></table></div>"
    ).format(" (no row)" if v1 is None else "", " (no row)" if v2 is None else "", rows)


def _cell(row: Mapping[str, object] | None, name: str) -> str:
    if row is None or name not in row:
        return ""
    return str(row[name])[:2000]
