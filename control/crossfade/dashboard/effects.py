"""Who is affected by a change of a cohort or a flag, before it is made. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from crossfade.core.contract import Stage
from crossfade.flags.bucketing import threshold
from crossfade.flags.evaluation import choose_backend, evaluate, stops
from crossfade.flags.model import Cohort, Context, Flag, FlagState


def share_effect(before: Decimal, after: Decimal, gain: str, lose: str) -> str:
    """What a change of a percentage does to all units."""
    low, high = sorted((threshold(before), threshold(after)))
    part = f"{abs(after - before).normalize():f} % of all users"
    where = f"those in buckets {low} to {high - 1}"
    if after > before:
        return f"{part} {gain}, {where}; nobody else changes"
    return f"{part} {lose}, {where}; nobody else changes"


def cohort_effects(state: FlagState, pair: str, after: Cohort, who: str = "") -> list[str]:
    """One line for each thing that a new cohort changes for somebody."""
    routing = state.pairs[pair]
    before = routing.cohort or Cohort(Decimal(0), pair)
    found = []
    if after.percentage != before.percentage:
        found.append(
            share_effect(before.percentage, after.percentage, "move to V2", "move back to V1")
        )
    found += _list_effects(before.enabled_user_ids, after.enabled_user_ids, "always V2")
    found += _list_effects(before.denied_user_ids, after.denied_user_ids, "never V2")
    if routing.stage is not Stage.LIVE:
        found.append(f"Nobody is affected yet: the stage is {routing.stage}, not live")
    for switch in state.engaged():
        if stops(switch, pair):
            found.append(f"Nobody is affected while kill switch {switch.name} is engaged")
    if who:
        changed = replace(routing, cohort=after)
        now = choose_backend(state, routing, Context(who)).backend
        then = choose_backend(state, changed, Context(who)).backend
        found.append(f"User {who}: V{now} now, V{then} then")
    return found


def flag_effects(state: FlagState, after: Flag, who: str = "") -> list[str]:
    """One line for each thing that a changed flag changes for somebody."""
    before = state.flags[after.name]
    found = []
    was = before.percentage if before.enabled else Decimal(0)
    then = after.percentage if after.enabled else Decimal(0)
    if was is not None and then is not None and was != then:
        found.append(share_effect(was, then, "get it", "lose it"))
    elif before.enabled != after.enabled:
        found.append("It is switched on" if after.enabled else "It is switched off for everybody")
    found += [
        f"Nobody is affected while kill switch {switch.name} is engaged"
        for switch in state.engaged()
        if switch.overrides_all or switch.name in after.killed_by
    ]
    gated = [name for name, pair in state.pairs.items() if pair.gate_flag == after.name]
    if gated:
        found.append(f"It gates {', '.join(gated)}: who loses it is served by V1")
    if who:
        changed = replace(state, flags={**state.flags, after.name: after})
        answers = [evaluate(s, after.name, Context(who)).variant for s in (state, changed)]
        found.append(f"User {who}: {answers[0]} now, {answers[1]} then")
    return found


def _list_effects(before: tuple[str, ...], after: tuple[str, ...], what: str) -> Iterator[str]:
    added = [item for item in after if item not in before]
    removed = [item for item in before if item not in after]
    if added:
        yield f"{what} from now on: {', '.join(added)}"
    if removed:
        yield f"no longer {what}: {', '.join(removed)}"
