"""Rollouts of a fake project: the states, not the gates, which are SQL's."""

from dataclasses import fields, replace
from decimal import Decimal
from typing import Any, TypeVar

from crossfade.core.contract import ErrorCode, RolloutState
from crossfade.core.errors import refusal
from crossfade.rollouts.plan import (
    Rollout,
    RolloutAdvanced,
    RolloutControlled,
    RolloutPlan,
    RolloutView,
)
from crossfade.testing.state import NOW, FakeState

T = TypeVar("T", bound=RolloutView)


class FakeRollouts(FakeState):
    """Implements ``Rollouts``. Tests arrange ``rollouts[pair].waits``."""

    def rollout_status(self, pair: str) -> RolloutView:
        """As arranged, at the pair's own step."""
        self._called("rollout_status", pair)
        return self._view(pair)

    def _view(self, pair: str) -> RolloutView:
        found = self._pair(pair)
        view = self.rollouts.get(pair) or RolloutView(pair, found.stage, found.percentage, 0)
        latched = found.latched_at is not None
        return replace(
            view, stage=found.stage, percentage=found.percentage, step=found.step, latched=latched
        )

    def start_rollout(
        self, pair: str, plan: RolloutPlan, *, reason: str, speed: float = 1
    ) -> RolloutView:
        """Begin; another plan under way is refused."""
        self._called("start_rollout", pair, plan, reason, speed)
        view = self._view(pair)
        if view.is_active and view.plan == plan:
            return replace(view, already=True)
        if view.is_active:
            raise refusal(ErrorCode.ROLLOUT_UNDER_WAY, f'A rollout of "{pair}" is under way')
        rollout = Rollout(1, RolloutState.RUNNING, speed, reason, started_at=NOW)
        self.rollouts[pair] = replace(
            view, rollout=rollout, plan=plan, steps=len(plan.steps), next=plan.steps[0]
        )
        return self._view(pair)

    def control_rollout(
        self, pair: str, action: str, *, reason: str, step: str | None = None, keep: bool = False
    ) -> RolloutControlled:
        """Change the state."""
        self._called("control_rollout", pair, action, reason, step, keep)
        view = self._view(pair)
        if view.rollout is None or not view.is_active:
            raise refusal(ErrorCode.NO_ROLLOUT, f'No rollout is under way for "{pair}"')
        states = {
            "hold": RolloutState.HELD,
            "resume": RolloutState.RUNNING,
            "abort": RolloutState.ABORTED,
        }
        state = states.get(action, view.rollout.state)
        approved = (*view.rollout.approved, step or "next") if action == "approve" else ()
        rollout = replace(view.rollout, state=state, reason=reason, approved=approved)
        changed = rollout.state is not view.rollout.state or action == "approve"
        self.rollouts[pair] = replace(view, rollout=rollout)
        return self._answer(RolloutControlled, pair, changed=changed)

    def advance_rollout(
        self, pair: str, *, expected_step: int, automatic: bool, reason: str | None = None
    ) -> RolloutAdvanced:
        """To the next step's percentage, unless ``waits`` is arranged or the pair has moved."""
        self._called("advance_rollout", pair, expected_step, automatic, reason)
        view = self._view(pair)
        if view.step != expected_step:
            return self._answer(RolloutAdvanced, pair, stale=True)
        if view.waits or view.next is None or view.plan is None:
            return self._answer(RolloutAdvanced, pair)
        percentage = Decimal(view.next.percentage)
        found = self._pair(pair)
        self.pairs[pair] = replace(
            found, stage=view.next.stage, percentage=percentage, step=found.step + 1
        )
        reached = view.reached + 1
        following = view.plan.steps[reached] if reached < len(view.plan.steps) else None
        self.rollouts[pair] = replace(view, reached=reached, current=view.next, next=following)
        return self._answer(RolloutAdvanced, pair, advanced=True)

    def _answer(self, kind: type[T], pair: str, **more: bool) -> T:
        view = self._view(pair)
        given: dict[str, Any] = {item.name: getattr(view, item.name) for item in fields(view)}
        return kind(**{**given, **more})
