"""Flags that have done their work: which, and why. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from crossfade.flags.model import Flag, FlagState


@dataclass(frozen=True, slots=True)
class StaleFlag:
    """A flag nobody needs any more, with each reason to think so."""

    name: str
    always: str
    reasons: tuple[str, ...]
    changed_at: datetime | None


def stale_flags(state: FlagState, *, now: datetime, unchanged_days: int) -> tuple[StaleFlag, ...]:
    """Flags that give everybody the same answer and will go on doing so.

    Args:
        state: the project.
        now: the clock.
        unchanged_days: how long a flag must have been left alone; a flag that belongs to nothing
            but complete pairs counts at once.
    """
    found = []
    for name in sorted(state.flags):
        flag = state.flags[name]
        always = _same_for_all(flag)
        if always is None:
            continue
        reasons = tuple(_reasons(state, flag, now=now, unchanged_days=unchanged_days))
        if reasons:
            found.append(StaleFlag(name, always, reasons, flag.updated_at))
    return tuple(found)


def _same_for_all(flag: Flag) -> str | None:
    """On or off when nobody's id can make a difference."""
    if not flag.enabled:
        return "off"
    if flag.allow_user_ids or flag.allow_agent_ids or flag.deny_user_ids or flag.deny_agent_ids:
        return None
    if flag.percentage is None:
        return "on" if flag.default_value else "off"
    return {0: "off", 100: "on"}.get(int(flag.percentage)) if flag.percentage % 1 == 0 else None


def _reasons(state: FlagState, flag: Flag, *, now: datetime, unchanged_days: int) -> list[str]:
    gates = [pair for pair in state.pairs.values() if pair.gate_flag == flag.name]
    needed_by = [f.name for f in state.flags.values() if flag.name in f.prerequisites]
    if needed_by or not all(pair.stage.is_over for pair in gates):
        return []
    reasons = [f"gate of {pair.name}, which is {pair.stage}" for pair in gates]
    over = [pair.stage.is_over for pair in state.pairs.values()]
    if over and all(over) and not gates:
        reasons.append("every pair is complete")
    if flag.updated_at and now - flag.updated_at >= timedelta(days=unchanged_days):
        reasons.append(f"unchanged for {(now - flag.updated_at).days} days")
    return reasons
