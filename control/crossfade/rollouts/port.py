"""What following a plan needs of the database."""

from typing import Protocol

from crossfade.rollouts.plan import RolloutAdvanced, RolloutControlled, RolloutPlan, RolloutView


class Rollouts(Protocol):
    """Following a plan."""

    def rollout_status(self, pair: str) -> RolloutView:
        """Return the newest rollout of a pair and what it waits for."""

    def start_rollout(
        self, pair: str, plan: RolloutPlan, *, reason: str, speed: float = 1
    ) -> RolloutView:
        """Begin to follow a plan; the same one twice is no error."""

    def control_rollout(
        self, pair: str, action: str, *, reason: str, step: str | None = None, keep: bool = False
    ) -> RolloutControlled:
        """Hold, resume, approve or abort."""

    def advance_rollout(
        self, pair: str, *, expected_step: int, automatic: bool, reason: str | None = None
    ) -> RolloutAdvanced:
        """Take the next step when nothing stands against it and nobody else has moved the pair."""
