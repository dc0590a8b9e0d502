"""The dashboard."""

from typing import Annotated

import typer

from crossfade.cli.output import say, show
from crossfade.cli.session import session
from crossfade.connect import find_local_auth
from crossfade.core.errors import ConfigError, InvalidValueError
from crossfade.project.config import load_settings

_ROLES = ("viewer", "operator", "admin")


def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8787,
    role: Annotated[
        str, typer.Option(help="What the link may do: viewer only looks; operator or admin acts.")
    ] = "admin",
    interval: Annotated[
        float, typer.Option(min=0.2, max=60, help="Seconds between two looks at the project.")
    ] = 2,
    hours: Annotated[float, typer.Option(min=0.001, max=168, help="How long a session lasts.")] = 8,
) -> None:
    """Serve the dashboard on 127.0.0.1, and print the link that signs you in.

    Needs: pip install 'crossfade[dashboard]'. Keys stay in this process; the browser gets numbers.
    With SUPABASE_PUBLISHABLE_KEY, operators sign in on the page, with their own rights.
    From another machine: ssh -L 8787:127.0.0.1:8787 HOST, and the same link. Also serves /metrics.

    Example: crossfade dashboard
    """
    if role not in _ROLES:
        raise InvalidValueError(f'Unknown role "{role}"', hint=f"One of {', '.join(_ROLES)}")
    opened = session(context)
    gateway = opened.gateway()
    caller = gateway.whoami()
    if caller.role is not None:  # signed in: nobody gives more than they have
        role = min(role, caller.role.value, key=_ROLES.index)
    try:
        from crossfade.dashboard.app import make_dashboard
    except ImportError as error:
        raise ConfigError(
            f"The dashboard is not installed: {error}",
            hint="Run: pip install 'crossfade[dashboard]'",
        ) from error
    from crossfade.dashboard.actions import Actions
    from crossfade.dashboard.feed import Feed
    from crossfade.dashboard.operators import OperatorSignIn
    from crossfade.dashboard.page import Door
    from crossfade.dashboard.view import Viewer
    from crossfade.views.metrics_server import Scraper

    feed = Feed(gateway, interval_s=interval)
    feed.start()
    settings = opened.settings or load_settings()
    public = settings.supabase_publishable_key
    local = None if public else find_local_auth(settings.data_dir)
    if local and local[0] == gateway.url:
        public = local[1]
    try:
        served = make_dashboard(
            door=Door(gateway.url, feed, Actions(gateway)),
            person=Viewer(caller.actor, role),
            scraper=Scraper(gateway),
            port=port,
            lifetime_s=hours * 3600,
            sign_in=OperatorSignIn(gateway.url, public.get_secret_value(), interval_s=interval)
            if public
            else None,
        )
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on 127.0.0.1:{port}: {error.strerror}", hint="Choose another --port"
        ) from error
    say(
        f"Dashboard of {gateway.url}; Ctrl-C ends it."
        f" Whoever has this link acts as {caller.actor} ({role})"
    )
    show(served.link)
    served.run()
