"""Steps that change a table of the owner's: how they are shown."""

from typing import Protocol

from crossfade.cli.output import table
from crossfade.pairs.catalog import OwnerStep


class StepPlan(Protocol):
    """A plan of such steps."""

    @property
    def steps(self) -> tuple[OwnerStep, ...]:
        """All of them, in order."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps the table from it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What its owner should know before."""


def remarks(plan: StepPlan) -> list[str]:
    """Return what is said beside the table of steps."""
    details = [f"{step.step}: {step.detail}" for step in plan.steps if step.detail]
    problems = [f"Problem: {text}" for text in plan.problems]
    return problems + details + [f"Note: {text}" for text in plan.notes]


def render(plan: StepPlan) -> str:
    """Return the table of steps."""
    return table(
        ("STEP", "STATE", "DOES", "LOCK", "HELD"),
        ((step.step, step.state, step.does, step.lock, step.held) for step in plan.steps),
    )
