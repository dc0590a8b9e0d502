"""How every command ends: one line on stderr and an exit code, a traceback only with --debug."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from crossfade.cli.output import say, say_lines
from crossfade.cli.session import session
from crossfade.core.errors import CrossfadeError, redact

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNHEALTHY: Final = 3
INTERRUPTED: Final = 130


class OneLineGroup(TyperGroup):
    """The root group; its ``main`` turns every exception into a line and a code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C that it does not handle itself is one honest line."""
        try:
            return super().invoke(ctx)
        except CrossfadeError as error:
            told = session(ctx).explained(error)
            raise told from (error if told is not error else error.__cause__)
        except KeyboardInterrupt:
            say("Interrupted; the last request may have been done. See: crossfade audit list")
            raise typer.Exit(INTERRUPTED) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit code."""
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given or os.environ.get("CROSSFADE_DEBUG", "") not in ("", "0")
        try:
            result = super().main(
                given, prog_name or "crossfade", complete_var, False, windows_expand_args, **extra
            )
            code = result if isinstance(result, int) else OK
        except Exception as error:
            if debug:
                say_lines(redact(traceback.format_exc()))
            code = report(error)
        if not standalone_mode:
            return code
        sys.exit(code)


def report(error: Exception) -> int:
    """Print one line for ``error`` and return the exit code."""
    if isinstance(error, CrossfadeError):
        say(f"Error: {error.line()}")
        return error.exit_code
    if isinstance(error, typer.Abort):
        say("Nothing was changed")
        return FAILED
    if isinstance(error, typer.TyperException):
        text = error.format_message()
        if "Usage:" in text:  # a group without a command: the message is its help
            say_lines(text)
        else:
            say(f"Error: {' '.join(text.split())}{_where(error)}")
        return error.exit_code
    say(f"Unexpected error: {type(error).__name__}: {redact(str(error))}. Run again with --debug")
    return FAILED


def _where(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f" See: {context.command_path} --help" if context else ""
