"""Signing in and out, and who one is."""

import sys
import time
from typing import Annotated

import typer
from pydantic import SecretStr

from crossfade.cli.options import AsJson
from crossfade.cli.output import cell, emit, say
from crossfade.cli.session import Session, gateway, session
from crossfade.connect import find_local_auth, store_of
from crossfade.core.errors import ConfigError, CrossfadeError, InvalidValueError, NotSignedInError
from crossfade.people.sign_in import MARGIN_S, SignIn
from crossfade.project.config import Settings, checked_url, load_settings


def add_to(app: typer.Typer) -> None:
    """Add ``login``, ``logout`` and ``whoami``."""
    app.command("login")(login)
    app.command("logout")(logout)
    app.command("whoami")(whoami)


def login(
    context: typer.Context,
    email: Annotated[
        str | None,
        typer.Option(help="Address of your user of Supabase Auth; asked for if left out."),
    ] = None,
    publishable_key: Annotated[
        str | None,
        typer.Option(
            envvar=["SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"],
            help="A key of the project that may be public.",
            show_default=False,
        ),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin, for scripts.")
    ] = False,
) -> None:
    """Sign in as an operator, with the password of your user of Supabase Auth.

    The tokens go to the system keyring, or to a file that only you can read. A secret key in the
    environment is stronger than a sign-in: leave it out.

    Example: crossfade login --email ada@example.com
    """
    from crossfade.gateway.auth import SupabaseAuth  # slow to import, so only when needed

    settings = session(context).settings or load_settings()
    url, key = _where(settings, publishable_key)
    email = email or _asked("Address")
    password = _password(from_stdin=password_stdin)
    with SupabaseAuth(url, key) as auth:
        signed = auth.sign_in(email, password)
    place = store_of(settings).save(signed)
    say(f"Signed in to {url} as {signed.email}; the tokens are in {place}")
    if settings.supabase_secret_key:
        say("SUPABASE_SECRET_KEY is set and is used instead: unset it to act as yourself")
        return
    here = Session(settings.model_copy(update={"supabase_url": url}))
    try:
        caller = here.gateway(check=False).whoami()
    finally:
        here.close()
    say(f"Your role is {caller.role}")


def _where(settings: Settings, publishable_key: str | None) -> tuple[str, str]:
    url = (settings.supabase_url or "").strip()
    key = publishable_key or (
        settings.supabase_publishable_key.get_secret_value()
        if settings.supabase_publishable_key
        else ""
    )
    if not url:
        found = find_local_auth(settings.data_dir)
        if found is None:
            raise ConfigError(
                f"No SUPABASE_URL, and no embedded stack runs in {settings.data_dir}",
                hint="Set SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY",
            )
        return found[0], key or found[1].get_secret_value()
    if key.startswith("sb_secret_"):
        raise ConfigError(
            "SUPABASE_PUBLISHABLE_KEY holds a secret key",
            hint="Take the publishable one (sb_publishable_...): it is kept with the tokens",
        )
    if not key:
        raise ConfigError(
            "Signing in needs SUPABASE_PUBLISHABLE_KEY",
            hint="Take it (sb_publishable_...) from the project's settings, API keys",
        )
    return checked_url(url), key.strip()


def _asked(what: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidValueError(
            "There is no terminal to ask", hint="Use --email and --password-stdin"
        )
    return str(typer.prompt(what, err=True))


def _password(*, from_stdin: bool) -> SecretStr:
    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        text = str(typer.prompt("Password", hide_input=True, err=True))
    else:
        raise InvalidValueError("There is no terminal to ask", hint="Use --password-stdin")
    if not text:
        raise InvalidValueError("The password is empty")
    return SecretStr(text)


def logout(context: typer.Context) -> None:
    """Sign out: revoke the tokens and forget them. Other sign-ins of yours stay.

    Example: crossfade logout
    """
    settings = session(context).settings or load_settings()
    store = store_of(settings)
    url = (settings.supabase_url or "").strip()
    if not url:
        local = find_local_auth(settings.data_dir)
        url = local[0] if local else ""
    signed = store.load(checked_url(url) if url else None)
    if signed is None:
        say("Nobody is signed in; nothing to do")
        return
    with store.locked():
        try:
            _revoke(signed)
        except CrossfadeError as error:
            say(f"The tokens were not revoked and end by themselves: {error.line()}")
        store.forget(signed.url)
    say(f"{signed.email} has signed out of {signed.url}")


def _revoke(signed: SignIn) -> None:
    from crossfade.gateway.auth import SupabaseAuth

    with SupabaseAuth(signed.url, signed.publishable_key) as auth:
        if signed.expires_at - time.time() < MARGIN_S:
            # An ended access token cannot revoke the refresh token that lives on.
            try:
                signed = auth.refresh(signed)
            except NotSignedInError:
                return
        auth.sign_out(signed)


def whoami(context: typer.Context, as_json: AsJson = False) -> None:
    """Say who you are and what your role is. Exit code 1 when you are no operator.

    Example: crossfade whoami
    """
    here = session(context)
    opened = gateway(context)
    caller = opened.whoami()
    value = {
        "url": opened.url,
        "source": here.source,
        "actor": caller.actor,
        "user_id": caller.user_id,
        "role": caller.role,
    }
    role = caller.role or "no role: the secret key may do everything"
    emit(value, as_json=as_json, render=lambda: f"{cell(caller.actor)} at {opened.url}: {role}")
