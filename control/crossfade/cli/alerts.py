"""Alert targets."""

import getpass
import socket

import typer

from crossfade.cli.options import AsJson
from crossfade.cli.output import emit, table
from crossfade.cli.session import session
from crossfade.core.errors import ConfigError
from crossfade.monitor.alert_targets import read_targets, send_test
from crossfade.monitor.alerts import Alert, Severity
from crossfade.project.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Where people are told.")


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the targets and from which severity on they are told. Never shows an address.

    They come from CROSSFADE_ALERTS ("critical=pagerduty://... https://hooks.example/x") and from
    the file that CROSSFADE_ALERTS_FILE names ([[target]] with url, severity, secret).

    Example: crossfade alerts list
    """
    found = read_targets(session(context).settings or load_settings())
    rows = [(target.name, target.severity) for target in found]
    value = [{"name": name, "severity": severity} for name, severity in rows]
    emit(value, as_json=as_json, render=lambda: table(("TARGET", "FROM"), rows))


@app.command("test")
def try_(context: typer.Context, as_json: AsJson = False) -> None:
    """Send a test alert to every target now. Exit code 1 when one did not take it.

    Example: crossfade alerts test
    """
    targets = read_targets(session(context).settings or load_settings())
    if not targets:
        raise ConfigError("There is no alert target", hint="Set CROSSFADE_ALERTS")
    who = f"{getpass.getuser()} on {socket.gethostname()}"
    alert = Alert(Severity.INFO, "test", "crossfade test", f"sent by {who}", {"test": True})
    done = send_test(targets, alert)
    rows = [(target.name, "failed: " + error if error else "sent") for target, error in done]
    value = [{"name": target.name, "sent": not error, "error": error} for target, error in done]
    emit(value, as_json=as_json, render=lambda: table(("TARGET", "OUTCOME"), rows))
    if any(error for _, error in done):
        raise typer.Exit(1)
