"""The demo: move a real chat history from V1 to V2 under live traffic, and prove what came out."""

from crossfade.demo.run import run_demo
from crossfade.demo.world import DemoOptions

__all__ = ["DemoOptions", "run_demo"]
