"""The monitor."""

import signal
import threading
import time
from typing import Annotated

import typer

from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson
from crossfade.cli.output import cell, emit, say, show, to_json
from crossfade.cli.session import gateway, session
from crossfade.core.contract import Outcome
from crossfade.monitor.alert_targets import in_background, read_targets
from crossfade.monitor.alerts import Alerts, LogChannel
from crossfade.monitor.loop import Monitor, Tick
from crossfade.project.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Watch the health rules and go back when they fail.")


@app.command("run")
def run(
    context: typer.Context,
    pair: Annotated[list[str] | None, typer.Option(help="Pair to watch; all by default.")] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds between two evaluations.",
            show_default="setting monitor_interval_s",
        ),
    ] = None,
    once: Annotated[bool, typer.Option(help="Evaluate once; exit code 3 unless PASS.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Judge and record, but never roll back.")] = False,
    follow_plans: Annotated[
        bool, typer.Option(help="Take the steps of rollout plans that are under way.")
    ] = True,
    verify_rows: Annotated[
        int,
        typer.Option(
            min=0,
            max=10_000,
            help="Rows of each mirrored pair to compare per evaluation; 0 compares none.",
        ),
    ] = 200,
    webhook: Annotated[
        str | None, typer.Option(envvar="CROSSFADE_WEBHOOK", help="Where alerts are posted.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the rules again and again; roll back by itself when one fails.

    Prints one line per pair and evaluation. It goes forward only where a rollout plan is under way
    (crossfade rollout start). Of several monitors one decides and the others stand by. Between
    dualwrite and rampdown it also compares some rows each time, round and round; what differs
    blocks the next stage.

    Example: crossfade monitor run --interval 5
    """
    opened = gateway(context)
    names = tuple(pair or ())
    for name in names:
        find_pair(opened, name)
    alerts = open_alerts(context, webhook)
    watcher = Monitor(opened, alerts=alerts, enforce=not dry_run, verify_rows=verify_rows)
    watcher.follow_plans = follow_plans
    if once:
        ticks = watcher.tick(names)
        watcher.release()
        alerts.close()
        for tick in ticks:
            _print(tick, as_json=as_json)
        if any(tick.outcome is not Outcome.PASS for tick in ticks):
            raise typer.Exit(3)
        return
    end_as_on_ctrl_c()
    try:
        watcher.run(
            names,
            interval_s=interval,
            on_tick=lambda tick: _print(tick, as_json=as_json),
            sleep=time.sleep,
        )
    except KeyboardInterrupt:
        alerts.close()
        say("Stopped; nobody watches now")
        raise typer.Exit(130) from None


def open_alerts(context: typer.Context, webhook: str | None = None) -> Alerts:
    """Alerts to the log and to the targets of the settings."""
    targets = read_targets(session(context).settings or load_settings(), webhook=webhook)
    return Alerts([LogChannel(), *in_background(targets)])


def end_as_on_ctrl_c() -> None:
    """Let SIGTERM, which service managers send, give the lease back like Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@app.command("drive")
def drive(
    context: typer.Context,
    off: Annotated[bool, typer.Option("--off", help="No longer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let pg_cron watch inside the database whenever no monitor is alive; needs pg_cron.

    It knows the rules on errors (R1, R1s, R1k) and goes back by itself; it never goes forward.

    Example: crossfade monitor drive
    """
    done = gateway(context).drive_monitor(enabled=not off)
    text = f"pg_cron watches ({done.job}, {done.schedule})" if done.driven else "pg_cron is off"
    emit(done, as_json=as_json, render=lambda: cell(text))


def _print(tick: Tick, *, as_json: bool) -> None:
    if as_json:
        show(to_json(tick).replace("\n", ""))  # one object a line, so that a stream can be read
        return
    bad = [f"{v.rule} {v.verdict}: {v.message}" for v in tick.verdicts if v.verdict.rank > 0]
    why = "; ".join(bad) or tick.error or ""
    share = f" {tick.sample.stage} {cell(tick.sample.percentage)} %" if tick.sample else ""
    role = " (standing by)" if tick.standby else ""
    show(f"{tick.at:%H:%M:%S} {tick.pair}{share} {tick.outcome}{role} {why}".rstrip())
    if tick.advanced:
        step = tick.advanced.current
        name = step.name if step and not tick.advanced.rollout_is_over else "the plan is done"
        say(f"Advanced: {tick.advanced.pair}, {name}")
    if tick.rolled_back:
        say(f"Rolled back: {tick.rolled_back.level} of {tick.rolled_back.scope}")
