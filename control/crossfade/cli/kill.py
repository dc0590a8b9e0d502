"""Kill switches."""

import sys
import time
from typing import Annotated

import typer

from crossfade.cli.names import suggest_switch
from crossfade.cli.options import AsJson, Reason, Yes
from crossfade.cli.output import confirm, emit, say, table
from crossfade.cli.session import gateway, session
from crossfade.core.errors import CrossfadeError, InvalidValueError, UnknownNameError
from crossfade.flags import kill_switches
from crossfade.flags.kill_effect import measure
from crossfade.flags.model import Engaged, KillSwitch
from crossfade.ports import Gateway

app = typer.Typer(no_args_is_help=True, help="Stop V2 or one feature at once.")
Name = Annotated[str, typer.Argument(help="Name of the kill switch.", show_default=False)]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the kill switches.

    Example: crossfade kill list
    """
    switches = gateway(context, older=True).read_flags().kill_switches
    emit(switches, as_json=as_json, render=lambda: _table(switches))


def _table(switches: tuple[KillSwitch, ...]) -> str:
    return table(
        ("NAME", "ENGAGED", "PAIR", "STOPS V2 WRITES", "SINCE", "BY", "REASON"),
        (
            (
                s.name,
                s.engaged,
                s.pair or "all",
                s.fences,
                s.engaged_at if s.engaged else None,
                s.engaged_by if s.engaged else None,
                s.reason if s.engaged else None,
            )
            for s in switches
        ),
    )


@app.command("engage")
def engage(
    context: typer.Context,
    name: Name,
    reason: Reason = None,
    wait: Annotated[
        float,
        typer.Option(min=0, max=600, help="Most seconds to measure the effect; 0: do not."),
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Engage a kill switch. One step: never asks, needs no reason, safe to repeat.

    Prints the outcome at once, then measures when V2 served last; Ctrl-C ends only that.

    Example: crossfade kill engage disable_v2_messages --reason "errors since 14:02"
    """
    # No schema check first: an emergency stop does one request and then tells.
    opened = session(context).gateway(check=False)
    try:
        engaged = kill_switches.engage(opened, name, reason=reason)
    except UnknownNameError as error:
        raise suggest_switch(opened, name, error) from error
    emit(engaged, as_json=as_json, render=lambda: _engaged(engaged))
    sys.stdout.flush()  # before anything else can go wrong
    if engaged.broadcast_error:
        say(f"Broadcast not sent ({engaged.broadcast_error}); edge functions notice when they poll")
    if engaged.in_flight:
        say("A V2 write that began before the kill may still commit: run the command again to see")
    stops_v2 = engaged.kill_switch.fences or engaged.kill_switch.overrides_all
    if wait and stops_v2 and not as_json:
        _measure(opened, engaged, wait)


def _measure(opened: Gateway, engaged: Engaged, wait_s: float) -> None:
    try:
        effect = measure(opened, engaged, wait_s=wait_s, clock=time.monotonic, sleep=time.sleep)
    except CrossfadeError as error:
        say(f"The effect could not be measured: {error.line()}")
    except KeyboardInterrupt:
        say("Not measured any further; the switch is engaged")
    else:
        say(effect.line())


def _engaged(done: Engaged) -> str:
    state = "engaged" if done.changed else "was engaged already"
    times = f"committed in {done.commit_ms:.0f} ms"
    if done.waited_ms >= 1:
        times += f" ({done.waited_ms:.0f} ms waiting for V2 writes)"
    if done.broadcast_ms is not None:
        times += f", broadcast in {done.broadcast_ms:.0f} ms more"
    return f"{done.kill_switch.name} {state}: {times}; flags version {done.flags_version}"


@app.command("release")
def release(context: typer.Context, name: Name, reason: Reason = None, yes: Yes = False) -> None:
    """Release a kill switch; needs a reason.

    Example: crossfade kill release disable_v2_messages --reason "fixed in 4f2a" --yes
    """
    opened = gateway(context, older=True)
    found = next((s for s in opened.read_flags().kill_switches if s.name == name), None)
    if found is None:
        raise suggest_switch(opened, name)
    if not (reason or "").strip():
        raise InvalidValueError(
            f'Cannot release "{name}" without a reason', hint='Add --reason "why it is safe now"'
        )
    if not found.engaged:
        say(f"{name} is not engaged; nothing to do")
        return
    plan = [f"release {name} (engaged by {found.engaged_by}: {found.reason or 'no reason given'})"]
    confirm(plan, yes=yes, command=f"crossfade kill release {name}")
    opened.release_kill_switch(name, reason=str(reason))
    say(f"{name} released")
