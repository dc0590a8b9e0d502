"""Widening step by step."""

from dataclasses import dataclass

import typer

from crossfade.cli import rollout_plan, rollout_simulate
from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, say_lines, table
from crossfade.cli.session import gateway
from crossfade.core.contract import Outcome
from crossfade.core.errors import InvalidValueError
from crossfade.core.escaping import escaped
from crossfade.flags.share import share_text
from crossfade.health import judgement
from crossfade.health.thresholds import read_thresholds
from crossfade.health.verdicts import Verdict
from crossfade.ports import Gateway
from crossfade.rollouts.advance import Advance, may_advance
from crossfade.rollouts.plan import RolloutView

app = typer.Typer(no_args_is_help=True, help="Widen the cohort step by step, when it is healthy.")
rollout_plan.add_to(app)
app.command("simulate")(rollout_simulate.simulate)


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """Where a rollout stands and what the rules say now. ``view``: the plan, if there is one."""

    advance: Advance
    verdicts: tuple[Verdict, ...]
    view: RolloutView


def read_status(opened: Gateway, pair: str) -> RolloutStatus:
    """Judge ``pair`` now."""
    found = find_pair(opened, pair)
    limits = read_thresholds(opened.read_flags().settings)
    sample = opened.health_sample(pair)
    verdicts = judgement.evaluate(sample, opened.latest_verdicts(pair), limits)
    automatic = [
        item.at for item in opened.list_rollbacks() if item.automatic and item.scope == pair
    ]
    plan = may_advance(
        found, verdicts, limits, now=sample.at, rolled_back_at=max(automatic, default=None)
    )
    return RolloutStatus(plan, verdicts, opened.rollout_status(pair))


@app.command("status")
def status(context: typer.Context, pair: PairName, as_json: AsJson = False) -> None:
    """Show the current step, the next one, and what is missing for it.

    Example: crossfade rollout status chat_messages
    """
    found = read_status(gateway(context), pair)
    emit(found, as_json=as_json, render=lambda: _text(found))


def _text(found: RolloutStatus) -> str:
    if found.view.is_active:
        return "\n".join([rollout_plan.view_text(found.view), verdict_table(found.verdicts)])
    plan = found.advance
    target = "the end" if plan.target is None else f"{cell(plan.target)} %"
    head = f"{plan.pair}: {share_text(found.view.backend, plan.current)}, next {target}"
    lines = map(escaped, (head, *(f"  waits: {item}" for item in plan.waits)))
    return "\n".join([*lines, verdict_table(found.verdicts)])


def verdict_table(verdicts: tuple[Verdict, ...]) -> str:
    """Verdicts for people."""
    return table(
        ("RULE", "SAYS", "VALUE", "N", "BOUND", "THRESHOLD", "MODE", "WHY"),
        (
            (v.rule, v.verdict, v.value, v.n, v.bound, v.threshold, v.mode, v.message)
            for v in verdicts
        ),
    )


@app.command("advance")
def advance(
    context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False
) -> None:
    """Go to the next percentage, when every gate passes. Exit code 3 when one does not.

    With a plan under way this takes the plan's next step; otherwise the next one of setting
    rollout_steps.

    Example: crossfade rollout advance chat_messages --reason "step is clean" --yes
    """
    opened = gateway(context)
    found = read_status(opened, pair)
    if found.view.is_active:
        _advance_plan(opened, found, reason, yes=yes)
        return
    plan = found.advance
    if not plan.is_allowed or plan.target is None:
        for item in plan.waits:
            say(f"  waits: {item}")
        say(f"{pair} stays at {cell(plan.current)} %")
        raise typer.Exit(3)
    assert judgement.worst(found.verdicts) is Outcome.PASS
    note = " (a step that a person approves)" if plan.approval else ""
    confirm(
        [f"{pair}: {cell(plan.current)} -> {cell(plan.target)} % on V2{note}"],
        yes=yes,
        command=f"crossfade rollout advance {pair}",
    )
    why = reason or f"advance to {cell(plan.target)} %"
    done = opened.set_cohort(pair, {"percentage": plan.target}, reason=why)
    say(f"{pair}: {share_text(done.backend, done.cohort.percentage)}")


def _advance_plan(opened: Gateway, found: RolloutStatus, reason: str | None, *, yes: bool) -> None:
    view, pair = found.view, found.view.pair
    target = view.next.name if view.next else "the end"
    confirm([f"{pair}: step {target}"], yes=yes, command=f"crossfade rollout advance {pair}")
    # The database asks for fresh verdicts, which a monitor may or may not have stored.
    opened.record_verdicts(pair, found.verdicts)
    done = opened.advance_rollout(pair, expected_step=view.step, automatic=False, reason=reason)
    if done.stale:
        say("Somebody else moved the pair meanwhile; nothing was changed")
    if not done.advanced:
        say_lines(rollout_plan.view_text(done))
        raise typer.Exit(3)
    say(f"{pair}: {target} ({done.stage}, {share_text(done.backend, done.percentage)})")


@app.command("rearm")
def rearm(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """Allow going forward again after an automatic rollback; needs a reason.

    Example: crossfade rollout rearm chat_messages --reason "cause found and fixed" --yes
    """
    opened = gateway(context)
    found = find_pair(opened, pair)
    if not (reason or "").strip():
        raise InvalidValueError(f'Cannot re-arm "{pair}" without a reason', hint="Add --reason")
    if not found.latched_at:
        say(f"{pair} is not latched; nothing to do")
        return
    confirm(
        [f"re-arm {pair} (latched {cell(found.latched_at)}: {found.latch_reason})"],
        yes=yes,
        command=f"crossfade rollout rearm {pair}",
    )
    opened.rearm(pair, reason=str(reason))
    say(f"{pair} is armed again")
