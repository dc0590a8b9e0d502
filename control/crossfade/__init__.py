"""crossfade: move a live Supabase project from a V1 format to V2 and back.

The functions take a gateway; ``SupabaseGateway(connect_to(load_settings()))`` is the real one,
``crossfade.testing.FakeGateway`` the one for tests. Names are imported when first used, so that
``import crossfade`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfade.connect import connect_to
    from crossfade.core.contract import Direction, Level, Outcome, RunState, Stage
    from crossfade.core.errors import CrossfadeError
    from crossfade.flags.bucketing import bucket, parse_percentage
    from crossfade.flags.evaluation import choose_backend, evaluate
    from crossfade.flags.kill_switches import engage
    from crossfade.flags.model import Context, FlagState
    from crossfade.gateway import Gateway, SupabaseGateway
    from crossfade.monitor.loop import Monitor
    from crossfade.pairs.check import check_pair
    from crossfade.pairs.model import PairSpec
    from crossfade.project.config import Connection, Settings, load_settings
    from crossfade.rollouts.advance import may_advance
    from crossfade.runs.backfill import run_backfill
    from crossfade.runs.driver import DriveOptions
    from crossfade.runs.verify import repair_all, run_verify

__version__ = "0.2.0"

__all__ = [
    "Connection",
    "Context",
    "CrossfadeError",
    "Direction",
    "DriveOptions",
    "FlagState",
    "Gateway",
    "Level",
    "Monitor",
    "Outcome",
    "PairSpec",
    "RunState",
    "Settings",
    "Stage",
    "SupabaseGateway",
    "__version__",
    "bucket",
    "check_pair",
    "choose_backend",
    "connect_to",
    "engage",
    "evaluate",
    "load_settings",
    "may_advance",
    "parse_percentage",
    "repair_all",
    "run_backfill",
    "run_verify",
]

_HOMES = {
    "connect": ("connect_to",),
    "core.contract": (
        "Direction",
        "Level",
        "Outcome",
        "RunState",
        "Stage",
    ),
    "core.errors": ("CrossfadeError",),
    "flags.bucketing": (
        "bucket",
        "parse_percentage",
    ),
    "flags.evaluation": (
        "choose_backend",
        "evaluate",
    ),
    "flags.kill_switches": ("engage",),
    "flags.model": (
        "Context",
        "FlagState",
    ),
    "gateway": (
        "Gateway",
        "SupabaseGateway",
    ),
    "monitor.loop": ("Monitor",),
    "pairs.check": ("check_pair",),
    "pairs.model": ("PairSpec",),
    "project.config": (
        "Connection",
        "Settings",
        "load_settings",
    ),
    "rollouts.advance": ("may_advance",),
    "runs.backfill": ("run_backfill",),
    "runs.driver": ("DriveOptions",),
    "runs.verify": (
        "repair_all",
        "run_verify",
    ),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"crossfade.{module}"), name)
    raise AttributeError(f"module 'crossfade' has no attribute {name!r}")
