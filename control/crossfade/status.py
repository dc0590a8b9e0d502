"""What an operator wants to see first."""

from dataclasses import dataclass

from crossfade.flags import FlagState
from crossfade.models import PairStatus
from crossfade.ports import Gateway


@dataclass(frozen=True, slots=True)
class Status:
    """The project at one moment. ``troubles``: what needs a person, one line each."""

    url: str
    source: str
    flags_version: int
    pairs: tuple[PairStatus, ...]
    engaged: tuple[str, ...]
    troubles: tuple[str, ...]


def read_status(gateway: Gateway, *, source: str = "environment") -> Status:
    """Read the project; ``source`` says where its address came from."""
    state, pairs = gateway.read_flags(), gateway.pair_status()
    return Status(
        url=gateway.url,
        source=source,
        flags_version=state.flags_version,
        pairs=pairs,
        engaged=tuple(switch.name for switch in state.engaged()),
        troubles=find_troubles(state, pairs),
    )


def find_troubles(state: FlagState, pairs: tuple[PairStatus, ...]) -> tuple[str, ...]:
    """Say what needs a person. Pure."""
    troubles = [
        f"kill switch {switch.name} is engaged ({switch.reason or 'no reason given'})"
        for switch in state.engaged()
    ]
    for pair in pairs:
        if pair.latched_at:
            troubles.append(f"{pair.name} was rolled back automatically: {pair.latch_reason}")
        for count, what in (
            (pair.open_failures, "mirror failures"),
            (pair.open_mismatches, "mismatches"),
        ):
            if count:
                troubles.append(f"{pair.name} has {count} {what}; crossfade repair {pair.name}")
    return tuple(troubles)
