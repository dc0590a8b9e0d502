"""Numbers an operator may change."""

from typing import Annotated

import typer

from crossfade.cli.names import unknown
from crossfade.cli.options import AsJson, Reason, Yes
from crossfade.cli.output import confirm, emit, say, table, to_json
from crossfade.cli.session import gateway
from crossfade.core.contract import ErrorCode
from crossfade.core.errors import InvalidValueError

app = typer.Typer(no_args_is_help=True, help="Numbers an operator may change.")


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the settings.

    Example: crossfade settings list
    """
    found = gateway(context).read_flags().settings
    rows = [(name, to_json(found[name]).replace("\n", "")) for name in sorted(found)]
    emit(dict(found), as_json=as_json, render=lambda: table(("NAME", "VALUE"), rows))


@app.command("set")
def set_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the setting.", show_default=False)],
    value: Annotated[str, typer.Argument(help="Number, text or JSON.", show_default=False)],
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Change one setting.

    Example: crossfade settings set monitor_interval_s 5 --reason "watch closely" --yes
    """
    opened = gateway(context)
    found = opened.read_flags().settings
    if name not in found:
        raise unknown("setting", name, found, ErrorCode.UNKNOWN_SETTING)
    if not (reason or "").strip():
        raise InvalidValueError(f'Cannot set "{name}" without a reason', hint="Add --reason")
    before = to_json(found[name]).replace("\n", "")
    confirm([f"{name}: {before} -> {value}"], yes=yes, command=f"crossfade settings set {name}")
    opened.set_setting(name, value, reason=str(reason))
    say(f"{name} is {value}")
