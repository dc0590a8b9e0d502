"""The audit."""

from typing import Annotated

import typer

from crossfade.cli.options import AsJson, Limit
from crossfade.cli.output import emit, table
from crossfade.cli.session import gateway

app = typer.Typer(no_args_is_help=True, help="Who changed what, when and why.")


@app.command("list")
def list_(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Option("--object", help="Only this flag, pair or switch.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List changes, newest first.

    Example: crossfade audit list --object chat_messages --json
    """
    found = gateway(context).list_audit(limit=limit, name=name)
    emit(
        found,
        as_json=as_json,
        render=lambda: table(
            ("AT", "WHO", "ACTION", "OBJECT", "VERSION", "REASON"),
            (
                (row.at, row.actor, row.action, row.object, row.flags_version, row.reason)
                for row in found
            ),
        ),
    )
