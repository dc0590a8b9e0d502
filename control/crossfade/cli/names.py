"""Errors for names that do not exist, with the ones that do."""

from collections.abc import Iterable
from difflib import get_close_matches

from crossfade.core.contract import ErrorCode
from crossfade.core.errors import CrossfadeError, UnknownNameError
from crossfade.pairs.model import PairStatus
from crossfade.ports import Gateway


def unknown(kind: str, name: str, known: Iterable[str], code: ErrorCode) -> UnknownNameError:
    """One line: the name, and the closest names or all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        hint = f"Did you mean {' or '.join(close)}?"
    else:
        hint = f"There are: {', '.join(names)}" if names else f"There is no {kind} yet"
    return UnknownNameError(f'Unknown {kind} "{name}"', hint=hint, code=code)


def suggest_switch(
    gateway: Gateway, name: str, error: CrossfadeError | None = None
) -> CrossfadeError:
    """The error for an unknown kill switch; the original one when the names cannot be read."""
    try:
        known = [switch.name for switch in gateway.read_flags().kill_switches]
    except CrossfadeError as other:
        return error or other
    return unknown("kill switch", name, known, ErrorCode.UNKNOWN_KILL_SWITCH)


def find_pair(gateway: Gateway, name: str) -> PairStatus:
    """Return the pair.

    Raises:
        UnknownNameError: with close names.
    """
    pairs = gateway.pair_status()
    for pair in pairs:
        if pair.name == name:
            return pair
    raise unknown("pair", name, (pair.name for pair in pairs), ErrorCode.UNKNOWN_PAIR)
