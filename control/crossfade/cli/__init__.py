"""The command line: ``crossfade <noun> <verb>``. Argument wiring only, one module per noun."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from crossfade import __version__
from crossfade.cli import (
    alerts,
    audit,
    backfill,
    cohort,
    dashboard,
    doctor,
    events,
    flags,
    flags_file,
    groups,
    handover,
    install,
    key,
    kill,
    lazy,
    login,
    metrics,
    monitor,
    operator,
    pair,
    pair_new,
    pair_watch,
    plan,
    relabel,
    rollback,
    rollout,
    settings,
    snapshot,
    stage,
    status,
    verify,
)
from crossfade.cli.group import OneLineGroup
from crossfade.cli.output import TalkHandler, show
from crossfade.cli.session import Session
from crossfade.project.config import Settings, load_settings

__all__ = ["app", "main"]

app = typer.Typer(
    cls=OneLineGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "auto_envvar_prefix": "CROSSFADE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    rich_markup_mode=None,
)

lazy.add_to(app)
app.command("status")(status.status)
app.command("metrics")(metrics.metrics)
app.command("dashboard")(dashboard.dashboard)
install.add_to(app)
login.add_to(app)
pair_watch.add_to(pair.app)
pair_new.add_to(pair.app)
app.command("plan")(plan.plan)
app.add_typer(key.app, name="key")
app.command("relabel")(relabel.relabel)
app.add_typer(pair.app, name="pair")
app.add_typer(stage.app, name="stage")
app.add_typer(groups.app, name="group")
app.add_typer(handover.app, name="handover")
app.add_typer(backfill.app, name="backfill")
app.add_typer(verify.app, name="verify")
app.command("repair")(verify.repair)
flags_file.add_to(flags.app)
app.add_typer(flags.app, name="flags")
app.add_typer(cohort.app, name="cohort")
kill.app.command("watch")(events.watch)
app.add_typer(kill.app, name="kill")
app.add_typer(rollout.app, name="rollout")
app.add_typer(rollback.app, name="rollback")
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(monitor.app, name="monitor")
app.add_typer(settings.app, name="settings")
app.command("doctor")(doctor.diagnose)
app.command("events")(events.events)
app.add_typer(alerts.app, name="alerts")
app.add_typer(audit.app, name="audit")
app.add_typer(operator.app, name="operator")


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"crossfade {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="SUPABASE_URL", help="Address of the project.", show_default=False),
    ] = None,
    secret_key: Annotated[
        str | None,
        typer.Option(
            envvar=["SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"],
            help="Its secret key. Better in the environment: others can see a command line.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path,
        typer.Option(envvar="CROSSFADE_DATA_DIR", help="Folder of the embedded stack."),
    ] = Path(".crossfade"),
    actor: Annotated[
        str | None,
        typer.Option(
            envvar="CROSSFADE_ACTOR", help="Who acts, for the audit.", show_default="login name"
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option(envvar="CROSSFADE_DEBUG", help="Show tracebacks and the log.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Move a live Supabase project from V1 to V2 with no downtime and an instant way back.

    Connects to SUPABASE_URL with SUPABASE_SECRET_KEY, or to the embedded stack of the data folder.

    Example: crossfade status
    """
    # Only our own log: the ones of HTTP libraries show headers, and with them the key.
    log = logging.getLogger("crossfade")
    log.handlers = [TalkHandler()]
    log.setLevel(logging.DEBUG if debug else logging.WARNING)
    if context.obj is None:
        context.obj = Session(
            Settings(
                supabase_url=url,
                supabase_secret_key=SecretStr(secret_key) if secret_key else None,
                data_dir=data_dir,
                actor=actor or load_settings().actor,
            )
        )
        context.call_on_close(context.obj.close)


def main() -> None:
    """Entry point of the ``crossfade`` command."""
    app()
