"""Following a plan: show, start, steer."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.monitor import end_as_on_ctrl_c, open_alerts
from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson, PairName, Reason, Yes
from crossfade.cli.output import cell, confirm, emit, say, say_lines, seconds, show, table
from crossfade.cli.session import gateway
from crossfade.core.contract import RolloutState
from crossfade.core.errors import InvalidValueError
from crossfade.core.escaping import escaped
from crossfade.flags.share import share_text
from crossfade.monitor.alerts import Alerts
from crossfade.monitor.loop import Monitor, Tick
from crossfade.ports import Gateway
from crossfade.rollouts.plan import PlanStep, RolloutPlan, RolloutView, parse_plan

SHIPPED = "five_weeks"
PlanFile = Annotated[
    Path | None,
    typer.Argument(
        help="TOML file of the plan.",
        show_default="the shipped plan of five weeks",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of plans."""
    for command in (plan, start, hold, resume, approve, abort):
        app.command(command.__name__)(command)


def read_plan(file: Path | None) -> RolloutPlan:
    """The plan of a file, or the shipped one."""
    if file is None:
        return parse_plan(shipped_text(), source="the shipped plan")
    return parse_plan(file.read_text("utf-8"), source=str(file))


def shipped_text() -> str:
    """The shipped plan as it is."""
    return files("crossfade.rollouts.shipped").joinpath(f"{SHIPPED}.toml").read_text("utf-8")


def plan(
    file: PlanFile = None,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print the shipped plan as a file to change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a plan and show its steps. Asks no server.

    Example: crossfade rollout plan --toml > my_plan.toml
    """
    if as_toml:
        show(shipped_text().rstrip())
        return
    found = read_plan(file)
    emit(found, as_json=as_json, render=lambda: plan_text(found))


def plan_text(found: RolloutPlan) -> str:
    """A plan for people."""
    rows = (
        (
            step.name,
            step.stage,
            f"{cell(step.percentage)} %",
            seconds(step.min_s),
            step.min_requests,
            step.approval,
            " ".join(step.gates) or "all",
            ", ".join(_flag(name, value) for name, value in step.flags.items()) or None,
        )
        for step in found.steps
    )
    head = ("STEP", "STAGE", "ON V2", "AT LEAST", "REQUESTS", "APPROVAL", "GATES", "FLAGS")
    return f"{found.name}: at least {seconds(found.min_s)}\n{table(head, rows)}"


def _flag(name: str, value: bool | float) -> str:
    if isinstance(value, bool):
        return name if value else f"{name} off"
    return f"{name} {value:g} %"


def start(
    context: typer.Context,
    pair: PairName,
    file: PlanFile = None,
    reason: Reason = None,
    speed: Annotated[
        float,
        typer.Option(min=1, max=1_000_000, help="Time runs so many times faster: a rehearsal."),
    ] = 1,
    watch: Annotated[
        bool, typer.Option(help="Stay, and be the monitor that takes the steps.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds between evaluations, with --watch.",
            show_default="setting monitor_interval_s",
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Begin to follow a plan. The monitor takes its steps, and goes back when a rule fails.

    Starting the same plan again changes nothing. With --watch the exit code is 0 at the end of the
    plan and 3 when it is held, rolled back or aborted; Ctrl-C leaves the plan under way.

    Example: crossfade rollout start chat_messages --reason "begin" --watch --yes
    """
    wanted, opened = read_plan(file), gateway(context)
    find_pair(opened, pair)
    why = _reason(reason, f'start a rollout of "{pair}"')
    before = opened.rollout_status(pair)
    lines = [f"follow plan {wanted.name}", *plan_text(wanted).splitlines()[1:]]
    if not (before.is_active and before.plan == wanted):
        confirm(lines, yes=yes, command=f"crossfade rollout start {pair}")
    found = opened.start_rollout(pair, wanted, reason=why, speed=speed)
    say(
        f"{pair}: {'was' if found.already else 'is'} following plan {wanted.name}"
        + (f", {speed:g} times faster" if speed != 1 else "")
    )
    if watch:
        found = _watch(opened, pair, interval, open_alerts(context))
    elif any(wait.code == "monitor" for wait in found.waits):
        say("No monitor runs, so nothing advances: start one with crossfade monitor run")
    emit(found, as_json=as_json, render=lambda: view_text(found))
    if watch and found.rollout is not None and found.rollout.state is not RolloutState.FINISHED:
        raise typer.Exit(3)


def _watch(opened: Gateway, pair: str, interval: float | None, alerts: Alerts) -> RolloutView:
    """Be the monitor until the plan is over or waits for a person's decision."""
    watcher, ended = Monitor(opened, alerts=alerts), [False]
    end_as_on_ctrl_c()

    def note(tick: Tick) -> None:
        if tick.advanced:
            say(_step_line(tick.advanced))
        if tick.rolled_back:
            say(f"rolled back: {tick.rolled_back.level} of {tick.rolled_back.scope}")
        rollout = opened.rollout_status(pair).rollout
        ended[0] = rollout is None or rollout.state is not RolloutState.RUNNING

    try:
        watcher.run((pair,), interval_s=interval, on_tick=note, stop=lambda: ended[0])
    except KeyboardInterrupt:
        say("Stopped watching; the plan stays under way and waits for a monitor")
        raise typer.Exit(130) from None
    finally:
        alerts.close()
    return opened.rollout_status(pair)


def _step_line(view: RolloutView) -> str:
    step = view.current
    name = step.name if step is not None and not view.rollout_is_over else "the plan is done"
    return f"{view.pair}: {name} ({view.stage}, {share_text(view.backend, view.percentage)})"


def view_text(view: RolloutView) -> str:
    """Where a rollout stands, for people."""
    if view.rollout is None or view.plan is None:
        return f"{view.pair} follows no plan; start one with crossfade rollout start {view.pair}"
    rollout = view.rollout
    state = f"{rollout.state}" + (f" ({escaped(rollout.reason)})" if rollout.reason else "")
    share = escaped(share_text(view.backend, view.percentage))
    lines = [f"{view.pair}: plan {escaped(view.plan.name)}, {state}", f"  {view.stage}, {share}"]
    for number, step in enumerate(view.plan.steps, start=1):
        lines.append(f"  {_mark(number, view)} {escaped(step.name)}{_detail(number, step, view)}")
    lines += [f"  waits: {escaped(wait.message)}" for wait in view.waits]
    return "\n".join(lines)


def _mark(number: int, view: RolloutView) -> str:
    if number < view.reached or (view.rollout_is_over and number == view.reached):
        return "done"
    return "  ->" if number == view.reached else "    "


def _detail(number: int, step: PlanStep, view: RolloutView) -> str:
    if number != view.reached or view.rollout_is_over:
        return ""
    return (
        f": {seconds(view.elapsed_s)} of {seconds(step.min_s)},"
        f" {view.requests} of {step.min_requests} requests"
    )


def hold(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """Hold the rollout: nothing advances until somebody resumes it. The rules stay armed.

    Example: crossfade rollout hold chat_messages --reason "release freeze" --yes
    """
    _steer(context, pair, "hold", reason, yes=yes, plan="nothing advances until it is resumed")


def resume(context: typer.Context, pair: PairName, reason: Reason = None, yes: Yes = False) -> None:
    """Let a rollout that is held go on.

    Example: crossfade rollout resume chat_messages --reason "freeze is over" --yes
    """
    _steer(context, pair, "resume", reason, yes=yes, plan="goes on when every gate passes")


def approve(
    context: typer.Context,
    pair: PairName,
    step: Annotated[
        str | None,
        typer.Option(help="Name of the step; * for all.", show_default="the next one"),
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Approve a step that a person has to approve, the next one unless --step names it.

    Example: crossfade rollout approve chat_messages --reason "looks good" --yes
    """
    what = f"step {step}" if step else "the next step"
    _steer(context, pair, "approve", reason, yes=yes, plan=f"approve {what}", step=step)


def abort(
    context: typer.Context,
    pair: PairName,
    reason: Reason = None,
    keep: Annotated[bool, typer.Option(help="Leave users on the backend they are on.")] = False,
    yes: Yes = False,
) -> None:
    """End the rollout and take all users back to V1 in one transaction, unless told to keep them.

    Example: crossfade rollout abort chat_messages --reason "wrong plan" --keep --yes
    """
    what = "users stay where they are" if keep else "all users go back to V1 (rollback COMPLETE)"
    _steer(context, pair, "abort", reason, yes=yes, plan=f"end the plan; {what}", keep=keep)


def _steer(
    context: typer.Context,
    pair: str,
    action: str,
    reason: str | None,
    *,
    yes: bool,
    plan: str,
    step: str | None = None,
    keep: bool = False,
) -> None:
    opened = gateway(context)
    find_pair(opened, pair)
    why = _reason(reason, f'{action} the rollout of "{pair}"')
    confirm([f"{pair}: {plan}"], yes=yes, command=f"crossfade rollout {action} {pair}")
    done = opened.control_rollout(pair, action, reason=why, step=step, keep=keep)
    say("Done" if done.changed else "Nothing to do: it is so already")
    say_lines(view_text(done))


def _reason(reason: str | None, action: str) -> str:
    if not (reason or "").strip():
        raise InvalidValueError(f"Cannot {action} without a reason", hint="Add --reason")
    return str(reason)
