"""Prometheus metrics."""

from typing import Annotated

import typer

from crossfade.cli.output import say, show
from crossfade.cli.session import gateway
from crossfade.views.metrics_server import Scraper, make_server


def metrics(
    context: typer.Context,
    serve: Annotated[bool, typer.Option(help="Serve them on 127.0.0.1 until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --serve; 0: any.")] = 9470,
) -> None:
    """Print the numbers of status as Prometheus metrics, or serve them on /metrics.

    Rules and a Grafana dashboard for them are in control/monitoring.

    Example: crossfade metrics --serve
    """
    opened = gateway(context)
    if not serve:
        show(Scraper(opened).scrape().rstrip())
        return
    with make_server(opened, port) as server:
        say(f"Metrics on http://127.0.0.1:{server.server_port}/metrics; Ctrl-C ends it")
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            say("Stopped")
            raise typer.Exit(130) from None
