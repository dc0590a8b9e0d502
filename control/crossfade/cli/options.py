"""Options that several commands share; each shows its environment variable in the help."""

from typing import Annotated

import typer

AsJson = Annotated[
    bool, typer.Option("--json", envvar="CROSSFADE_JSON", help="Print JSON on stdout.")
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", envvar="CROSSFADE_YES", help="Do not ask; for scripts.")
]
Reason = Annotated[
    str | None,
    typer.Option(envvar="CROSSFADE_REASON", help="Why; kept in the audit.", show_default=False),
]
Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Go forward although a kill switch or an abort stops V2."),
]
PairName = Annotated[str, typer.Argument(help="Name of the pair.", show_default=False)]
AnyPair = Annotated[
    str | None, typer.Argument(help="Name of the pair; all when left out.", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")]
