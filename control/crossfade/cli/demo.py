"""``crossfade demo``: a whole migration on this machine, under live traffic."""

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossfade.cli.options import AsJson
from crossfade.cli.output import say, say_lines, show, to_json
from crossfade.demo import run_demo
from crossfade.demo.report import as_json as report_values
from crossfade.demo.run import PICTURE, REPORT
from crossfade.demo.table import show as show_table
from crossfade.demo.world import DemoOptions

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command("demo")
def demo(
    rows: Annotated[
        int | None,
        typer.Option(
            min=500, envvar="CROSSFADE_DEMO_ROWS", help="Messages of the history; all by default."
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option(envvar="CROSSFADE_DEMO_KEEP", help="Leave the stack running for a look.")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="CROSSFADE_DEMO_DATA_DIR",
            help="New folder for the stack; one below --out by default, removed at the end.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(envvar="CROSSFADE_DEMO_OUT", help="Folder of report and picture.")
    ] = Path("build/demo"),
    as_json: AsJson = False,
) -> None:
    """Run a whole migration locally, break things on purpose, and prove what came out.

    Exits 1 when any promise is broken, and says which and what that means.

    Example: crossfade demo --rows 20000 --keep
    """
    # A plain kill must clean up like Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = DemoOptions(rows=rows, keep=keep, data_dir=data_dir, out_dir=out)
    report = run_demo(options, Console(stderr=True))
    if as_json:
        show(to_json(report_values(report)))
    else:
        show_table(report, Console())
    say(f"Report: {out / REPORT}, picture: {out / PICTURE}")
    if report.kept_in is not None:
        say_lines(_how_to_look(report.kept_in))
    if report.broken:
        raise typer.Exit(1)


def _how_to_look(data_dir: str) -> str:
    return (
        f"The stack still runs. Look around: crossfade --data-dir {data_dir} status\n"
        f"Stop it: crossfade down --data-dir {data_dir}"
    )
