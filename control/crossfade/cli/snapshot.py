"""Snapshots of the control state."""

from typing import Annotated

import typer

from crossfade.cli.options import AsJson, Limit, Reason, Yes
from crossfade.cli.output import confirm, emit, say, table
from crossfade.cli.session import gateway
from crossfade.core.errors import InvalidValueError

app = typer.Typer(no_args_is_help=True, help="Save and restore flags, cohorts, switches, stages.")


@app.command("take")
def take(context: typer.Context, reason: Reason = None, as_json: AsJson = False) -> None:
    """Save the control state. Rows of your tables are not part of it.

    Example: crossfade snapshot take --reason "before the holidays"
    """
    done = gateway(context).take_snapshot(reason=reason)
    emit(done, as_json=as_json, render=lambda: f"Snapshot {done.id}")


@app.command("list")
def list_(context: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List snapshots, newest first.

    Example: crossfade snapshot list
    """
    found = gateway(context).list_snapshots(limit=limit)
    rows = [(item.id, item.at, item.actor, item.reason) for item in found]
    emit(found, as_json=as_json, render=lambda: table(("ID", "AT", "BY", "REASON"), rows))


@app.command("restore")
def restore(
    context: typer.Context,
    snapshot: Annotated[int, typer.Argument(help="Number of the snapshot.", show_default=False)],
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Bring a saved control state back.

    Example: crossfade snapshot restore 12 --reason "undo the rollback" --yes
    """
    if not (reason or "").strip():
        raise InvalidValueError(
            f"Cannot restore snapshot {snapshot} without a reason", hint="Add --reason"
        )
    opened = gateway(context)
    confirm(
        [f"restore flags, cohorts, kill switches and stages of snapshot {snapshot}"],
        yes=yes,
        command=f"crossfade snapshot restore {snapshot}",
    )
    opened.restore_snapshot(snapshot, reason=str(reason))
    say(f"Snapshot {snapshot} is restored")
