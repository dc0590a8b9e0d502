"""Who is served by V2 now, as the database says it, and what holds the share down."""

from dataclasses import dataclass
from decimal import Decimal

STOPS = ("kill_switch", "latched", "aborted")


@dataclass(frozen=True, slots=True)
class ShareCause:
    """What holds the share down or forbids to raise it. ``hint``: the command that ends it."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BackendShare:
    """``share_pct`` of the units are served by V2 now; ``set_pct`` is what the cohort says."""

    share_pct: Decimal
    set_pct: Decimal
    causes: tuple[ShareCause, ...] = ()

    @property
    def stops(self) -> tuple[ShareCause, ...]:
        """What forbids the pair to go forward."""
        return tuple(cause for cause in self.causes if cause.code in STOPS)


def share_text(found: BackendShare | None, percentage: Decimal) -> str:
    """One sentence for people; without an answer (an older database) only what was set."""
    if found is None:
        return f"{_number(percentage)} % set; the database is too old to say what is in force"
    text = f"{_number(found.share_pct)} % on V2"
    why = "; ".join(cause.message for cause in found.causes)
    if found.share_pct != found.set_pct:
        why = f"{_number(found.set_pct)} % are set" + (f", but {why}" if why else "")
    return f"{text} ({why})" if why else text


def _number(value: Decimal) -> str:
    return f"{value.normalize():f}"
