"""The steps of the demo, in order."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from crossfade.demo import forward, trouble
from crossfade.demo.console import Showing
from crossfade.demo.world import World


@dataclass(frozen=True, slots=True)
class StoryStep:
    """One step: what it is called, what a person reads, what it does."""

    name: str
    title: str
    act: Callable[[World, Showing], None]


STEPS = (
    StoryStep("users", "Sign up the users", forward.sign_up),
    StoryStep("history", "Load the V1 history", forward.load),
    StoryStep("clients", "Start V1 and V2 clients (they never stop)", forward.open_doors),
    StoryStep("prove", "Prove the converters on the whole history", forward.prove_converters),
    StoryStep("dualwrite", "Stage dualwrite: mirror every write", forward.dual_write),
    StoryStep("backfill", "Backfill the old rows", forward.backfill),
    StoryStep("verify", "Verify both tables", forward.verify),
    StoryStep("shadow", "Stage shadow: compare reads in the background", forward.shadow),
    StoryStep("live_5", "Stage live: 5 % of the users", forward.go_live),
    StoryStep("live_25", "Widen to 25 %", partial(forward.widen, percentage=25)),
    StoryStep(
        "fault", "Version 2 fails and is slow: the monitor is alone", trouble.fail_and_roll_back
    ),
    StoryStep("recover", "Cause removed: re-arm and go on", trouble.recover),
    StoryStep("live_75", "Widen to 75 %", partial(forward.widen, percentage=75)),
    StoryStep("kill", "Kill switch under load, one isolate cut off", trouble.kill_drill),
    StoryStep("live_100", "Widen to 100 %", partial(forward.widen, percentage=100)),
    StoryStep("rampdown", "Stage rampdown: version 2 leads", forward.ramp_down),
    StoryStep("back", "Back to shadow, and forward again", forward.back_and_forth),
)
