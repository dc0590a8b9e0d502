"""Numbers and times as people read them. A value that is not known is a dash, never a zero."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from markupsafe import Markup, escape

NONE = Markup('<span class="none" aria-label="unknown">&ndash;</span>')


def count(value: float | None) -> Markup:
    """A whole number with thin spaces."""
    return NONE if value is None else escape(f"{value:,.0f}".replace(",", "\u202f"))


def rate(value: float | None) -> Markup:
    """A share as per cent."""
    if value is None:
        return NONE
    digits = 0 if value in (0, 1) else 2 if value < 0.01 else 1
    return escape(f"{value * 100:.{digits}f}\u202f%")


def percent(value: Decimal | None) -> Markup:
    """A percentage without zeros at its end."""
    return NONE if value is None else escape(f"{value.normalize():f}\u202f%")


def millis(value: float | None) -> Markup:
    """A latency."""
    if value is None:
        return NONE
    return escape(f"{value / 1000:.1f}\u202fs" if value >= 10_000 else f"{value:.0f}\u202fms")


def duration(seconds: float | None) -> Markup:
    """A time span."""
    if seconds is None:
        return NONE
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return escape(f"{seconds / size:.1f}\u202f{unit}".replace(".0", ""))
    return escape(f"{seconds:.0f}\u202fs")


def moment(at: datetime | None) -> Markup:
    """A time that the page shows in the reader's zone, with its age."""
    if at is None:
        return NONE
    iso = at.isoformat(timespec="seconds")
    return Markup('<time datetime="{}">{}</time>').format(iso, f"{at:%Y-%m-%d %H:%M:%S}Z")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose first column names the row; cells are escaped unless they are Markup."""
    body = [
        Markup("<tr><th scope=row>{}</th>{}</tr>").format(
            row[0], Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row[1:])
        )
        for row in rows
    ]
    if not body:
        return Markup('<p class="empty">{}: none</p>').format(caption)
    head = Markup("").join(
        Markup("<th scope=col>{}</th>").format(name) if name else Markup("<td></td>")
        for name in heads
    )
    return Markup(
        '<div class="scroll" tabindex=0 role=region aria-label="{}"><table><caption>{}</caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(caption, caption, head, Markup("").join(body))


def button(text: str, action: str, *, kind: str = "", label: str = "", **data: object) -> Markup:
    """A button that tells the server what was asked; ``data`` are its arguments."""
    given = Markup("").join(
        Markup(' data-{}="{}"').format(name.replace("_", "-"), value)
        for name, value in data.items()
    )
    key = ":".join([action, *(str(value) for value in data.values())])
    return Markup(
        '<button type=button class="{}" data-action="{}" data-key="{}"{}{}>{}</button>'
    ).format(
        kind,
        action,
        key,
        given,
        Markup(' aria-label="{}"').format(label) if label else "",
        text,
    )
