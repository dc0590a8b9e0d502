"""Say what changes in a cohort. Pure; the database checks and stores it."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from crossfade.flags.model import Cohort
from crossfade.flags.port import Changes


@dataclass(frozen=True, slots=True)
class Lists:
    """Ids to put into or take out of the two lists."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()


def cohort_changes(
    cohort: Cohort,
    *,
    percentage: Decimal | None = None,
    users: Lists = Lists(),
    agents: Lists = Lists(),
) -> Changes:
    """Return the columns that differ from ``cohort``; empty when nothing does.

    ``allow`` takes an id out of the deny list and the other way round; ``clear`` takes it out of
    both, so that the percentage decides about it again.
    """
    wanted: dict[str, Decimal | tuple[str, ...]] = {}
    if percentage is not None:
        wanted["percentage"] = percentage
    wanted["enabled_user_ids"] = _edit(cohort.enabled_user_ids, users.allow, users.deny, users)
    wanted["denied_user_ids"] = _edit(cohort.denied_user_ids, users.deny, users.allow, users)
    wanted["enabled_agent_ids"] = _edit(cohort.enabled_agent_ids, agents.allow, agents.deny, agents)
    wanted["denied_agent_ids"] = _edit(cohort.denied_agent_ids, agents.deny, agents.allow, agents)
    return {name: value for name, value in wanted.items() if value != getattr(cohort, name)}


def _edit(
    current: tuple[str, ...], add: Iterable[str], remove: Iterable[str], lists: Lists
) -> tuple[str, ...]:
    gone = {*remove, *lists.clear}
    kept = [item for item in current if item not in gone]
    return (*kept, *(item for item in dict.fromkeys(add) if item not in kept))
