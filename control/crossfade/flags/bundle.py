"""The snapshot deployed with an edge function: what it knows before its first read. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal

from crossfade.flags.model import FlagState

FILE_NAME = "flags.json"
_FLAG_COLUMNS = (
    "name",
    "enabled",
    "percentage",
    "default_value",
    "cohort_key",
    "allow_user_ids",
    "allow_agent_ids",
    "deny_user_ids",
    "deny_agent_ids",
    "prerequisites",
    "killed_by",
)
_SWITCH_COLUMNS = ("name", "engaged", "fences", "overrides_all", "pair")
_COHORT_COLUMNS = (
    "percentage",
    "cohort_key",
    "enabled_user_ids",
    "enabled_agent_ids",
    "denied_user_ids",
    "denied_agent_ids",
)

Document = dict[str, object]


def bundle(state: FlagState) -> Document:
    """Return what ``read_flags`` answers, without texts and dates: they decide nothing."""
    flags = [_columns(asdict(state.flags[name]), _FLAG_COLUMNS) for name in sorted(state.flags)]
    switches = sorted(state.kill_switches, key=lambda switch: switch.name)
    return {
        "flags_version": state.flags_version,
        "flags": flags,
        "kill_switches": [_columns(asdict(switch), _SWITCH_COLUMNS) for switch in switches],
        "pairs": [_pair(state, name) for name in sorted(state.pairs)],
        "settings": dict(sorted(state.settings.items())),
    }


def _pair(state: FlagState, name: str) -> Document:
    routing = state.pairs[name]
    cohort = asdict(routing.cohort) if routing.cohort else {"percentage": Decimal(0)}
    return {
        "name": routing.name,
        "stage": routing.stage.value,
        "gate_flag": routing.gate_flag,
        "step": routing.step,
        "cohort": _columns(cohort, _COHORT_COLUMNS),
    }


def _columns(row: Mapping[str, object], names: tuple[str, ...]) -> Document:
    return {name: _plain(row[name]) for name in names if name in row}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        # Three decimals: the shortest float reads back as what was meant.
        return float(value)
    return list(value) if isinstance(value, tuple) else value
