"""crossfade: move a live Supabase project from a V1 format to V2 and back.

The functions take a gateway; ``SupabaseGateway(connect_to(load_settings()))`` is the real one,
``crossfade.testing.FakeGateway`` the one for tests. Names are imported when first used, so that
``import crossfade`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfade.backfill import run_backfill
    from crossfade.bucketing import bucket, parse_percentage
    from crossfade.config import Connection, Settings, connect_to, load_settings
    from crossfade.contract import Direction, Level, Outcome, RunState, Stage
    from crossfade.errors import CrossfadeError
    from crossfade.flags import Context, FlagState, choose_backend, evaluate
    from crossfade.gateway import Gateway, SupabaseGateway
    from crossfade.kill_switches import engage
    from crossfade.monitor import Monitor
    from crossfade.pairs import PairSpec, check_pair
    from crossfade.rollout import may_advance
    from crossfade.runs import DriveOptions
    from crossfade.verify import repair_all, run_verify

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
    "backfill": ("run_backfill",),
    "bucketing": ("bucket", "parse_percentage"),
    "config": ("Connection", "Settings", "connect_to", "load_settings"),
    "contract": ("Direction", "Level", "Outcome", "RunState", "Stage"),
    "errors": ("CrossfadeError",),
    "flags": ("Context", "FlagState", "choose_backend", "evaluate"),
    "gateway": ("Gateway", "SupabaseGateway"),
    "kill_switches": ("engage",),
    "monitor": ("Monitor",),
    "pairs": ("PairSpec", "check_pair"),
    "rollout": ("may_advance",),
    "runs": ("DriveOptions",),
    "verify": ("repair_all", "run_verify"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"crossfade.{module}"), name)
    raise AttributeError(f"module 'crossfade' has no attribute {name!r}")
