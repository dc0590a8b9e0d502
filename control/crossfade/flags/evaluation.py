"""Flags: what they are and how they are evaluated. Pure; the same in SQL and TypeScript.

Order, the first that applies wins: kill switch, disabled, prerequisite, deny, allow, percentage,
default. ``tests/vectors/flag_evaluation.json`` and ``backend_choice.json`` pin it.
"""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from crossfade.core.contract import Reason, Stage
from crossfade.flags.bucketing import bucket, threshold
from crossfade.flags.model import (
    BackendChoice,
    Context,
    Evaluation,
    Flag,
    FlagState,
    KillSwitch,
    PairRouting,
    RuleStep,
)


def evaluate(state: FlagState, name: str, context: Context, *, stale: bool = False) -> Evaluation:
    """Return the value of flag ``name``; an unknown flag is off with ``FLAG_NOT_FOUND``.

    ``stale`` means that ``state`` is past its hard age: a flag that can be killed may have been
    killed since, so it is off.
    """
    flag = state.flags.get(name)
    if flag is None:
        return Evaluation(
            flag=name,
            value=False,
            reason=Reason.ERROR,
            rule="unknown",
            flags_version=state.flags_version,
            error_code="FLAG_NOT_FOUND",
        )
    steps = tuple(_steps(state, flag, context))
    last = next(step for step in steps if step.matched)
    fresh = Evaluation(
        flag=name,
        value=last.value,
        reason=last.reason,
        rule=last.rule,
        flags_version=state.flags_version,
        bucket=last.bucket,
        threshold=last.threshold,
        kill_switch=last.kill_switch,
        prerequisite=last.prerequisite,
        steps=tuple(replace(step, decides=step is last) for step in steps),
    )
    if not stale or last.rule == "kill_switch":
        return fresh
    if flag.killed_by:
        version = state.flags_version
        return Evaluation(name, False, Reason.STALE, "stale", version, steps=fresh.steps)
    return replace(fresh, reason=Reason.STALE)


def _steps(state: FlagState, flag: Flag, context: Context, *, depth: int = 0) -> Iterator[RuleStep]:
    off = Reason.DISABLED
    killer = next(
        (s.name for s in state.engaged() if s.overrides_all or s.name in flag.killed_by), None
    )
    yield RuleStep("kill_switch", killer is not None, reason=off, kill_switch=killer)
    yield RuleStep("disabled", not flag.enabled, reason=off)
    unmet = _unmet_prerequisite(state, flag, context) if depth == 0 else None
    yield RuleStep("prerequisite", unmet is not None, reason=off, prerequisite=unmet)
    target = Reason.TARGETING_MATCH
    denied = context.is_in(flag.deny_user_ids, flag.deny_agent_ids)
    yield RuleStep("deny", denied, reason=target)
    allowed = context.is_in(flag.allow_user_ids, flag.allow_agent_ids)
    yield RuleStep("allow", allowed, True, reason=target)
    if flag.percentage is None:
        yield RuleStep("percentage", False)
    else:
        yield percentage_step(flag.percentage, flag.cohort_key or flag.name, context)
    yield RuleStep("default", True, flag.default_value)


def _unmet_prerequisite(state: FlagState, flag: Flag, context: Context) -> str | None:
    # One level only: a prerequisite's own prerequisites are not looked at, so no cycle can hang.
    for name in flag.prerequisites:
        other = state.flags.get(name)
        if other is None:
            return name
        steps = _steps(state, other, context, depth=1)
        if not next(step for step in steps if step.matched).value:
            return name
    return None


def percentage_step(percentage: Decimal, cohort_key: str, context: Context) -> RuleStep:
    """The percentage rule: matches at 100 for everybody, else only when there is a unit."""
    limit = threshold(percentage)
    if context.unit is None:
        full = percentage == 100
        return RuleStep("percentage", full, full, reason=Reason.SPLIT, threshold=limit)
    place = bucket(cohort_key, context.unit)
    inside = place < limit
    return RuleStep("percentage", True, inside, reason=Reason.SPLIT, bucket=place, threshold=limit)


def choose_backend(state: FlagState, pair: PairRouting, context: Context) -> BackendChoice:
    """Decide which backend serves ``pair`` for ``context``."""

    def choice(backend: int, reason: Reason, rule: str) -> BackendChoice:
        return BackendChoice(backend, reason, rule, state.flags_version)

    if pair.stage.is_over:
        return choice(2, Reason.STATIC, "stage")
    if any(stops(switch, pair.name) for switch in state.engaged()):
        return choice(1, Reason.DISABLED, "kill_switch")
    if pair.stage.rank < Stage.LIVE.rank:
        return choice(1, Reason.STATIC, "stage")
    if pair.gate_flag:
        gate = evaluate(state, pair.gate_flag, context)
        if not gate.value:
            return choice(1, gate.reason, "gate_flag")
    if pair.stage is Stage.RAMPDOWN:
        return choice(2, Reason.STATIC, "stage")
    return _by_cohort(state, pair, context)


def stops(switch: KillSwitch, pair: str) -> bool:
    """True when this engaged switch keeps ``pair`` on backend 1."""
    return switch.overrides_all or (switch.fences and switch.pair in (None, pair))


def _by_cohort(state: FlagState, pair: PairRouting, context: Context) -> BackendChoice:
    version, cohort = state.flags_version, pair.cohort
    if cohort is None:
        return BackendChoice(1, Reason.DEFAULT, "default", version)
    target = Reason.TARGETING_MATCH
    if context.is_in(cohort.denied_user_ids, cohort.denied_agent_ids):
        return BackendChoice(1, target, "deny", version)
    if context.is_in(cohort.enabled_user_ids, cohort.enabled_agent_ids):
        return BackendChoice(2, target, "allow", version)
    step = percentage_step(cohort.percentage, cohort.cohort_key, context)
    if not step.matched:
        return BackendChoice(1, Reason.DEFAULT, "default", version)
    backend = 2 if step.value else 1
    return BackendChoice(backend, step.reason, step.rule, version, step.bucket, step.threshold)
