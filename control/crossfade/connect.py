"""Where to connect, with what, as whom: settings, a sign-in, or the embedded stack."""

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from crossfade.core.errors import ConfigError
from crossfade.project.config import Connection, Settings, checked_key, checked_url

if TYPE_CHECKING:
    from crossfade.people.sign_in import SignIn, Store


def connect_to(
    settings: Settings,
    *,
    find_stack: Callable[[Path], Connection | None] | None = None,
    find_sign_in: Callable[[Settings, str | None], Connection | None] | None = None,
) -> Connection:
    """Decide where to connect, and as whom.

    A secret key wins. Without one it is the sign-in for SUPABASE_URL; without that variable, the
    embedded stack of the data directory, else the project of the last sign-in.

    Args:
        settings: what the environment and the command line say.
        find_stack: looks for a running embedded stack; the default asks ``crossfade.local``.
        find_sign_in: looks for a sign-in at a URL, None for the last one; the default asks the
            token store.

    Raises:
        ConfigError: when neither says enough, or a value cannot be right.
    """
    actor = settings.actor or _login_name()
    url = (settings.supabase_url or "").strip()
    key = settings.supabase_secret_key
    signed_in = find_sign_in or find_stored_sign_in
    if not url and not key:
        found = (find_stack or find_local_stack)(settings.data_dir)
        if found:
            person = signed_in(settings, found.url)
            return person or Connection(found.url, found.key, actor, found.source)
        person = signed_in(settings, None)
        if person:
            return person
        raise ConfigError(
            f"No SUPABASE_URL, nobody is signed in, and no embedded stack runs in"
            f" {settings.data_dir}",
            hint="Set SUPABASE_URL and SUPABASE_SECRET_KEY, or run crossfade login, or start a"
            " stack with: crossfade up",
        )
    if url and not key:
        person = signed_in(settings, checked_url(url))
        if person:
            return person
    return Connection(checked_url(url), checked_key(key), actor)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "crossfade"  # no passwd entry, as in many containers


def find_local_auth(data_dir: Path) -> tuple[str, SecretStr] | None:
    """Return URL and publishable key of the embedded stack that runs in ``data_dir``."""
    try:
        from crossfade.local.stack import running_stack  # needs the "local" extra
    except ImportError:
        return None
    info = running_stack(data_dir)
    return None if info is None else (info.api_url, SecretStr(info.publishable_key))


def find_local_stack(data_dir: Path) -> Connection | None:
    """Return how to reach the embedded stack that runs in ``data_dir``, if one does."""
    try:
        from crossfade.local.stack import running_stack  # needs the "local" extra
    except ImportError:
        return None
    info = running_stack(data_dir)
    if info is None:
        return None
    return Connection(info.api_url, SecretStr(info.secret_key), "", f"embedded stack in {data_dir}")


def find_stored_sign_in(settings: Settings, url: str | None) -> Connection | None:
    """Return how to reach a project as the person who has signed in there, if somebody has."""
    from crossfade.people.sign_in import Person

    store = store_of(settings)
    signed = store.load(url)
    if signed is None:
        return None

    person = Person(signed, store, _refresh)
    source = f"signed in as {signed.email}"
    key = SecretStr(signed.publishable_key)
    return Connection(signed.url, key, signed.email, source, person.access_token)


def _refresh(signed: "SignIn") -> "SignIn":
    from crossfade.gateway.auth import SupabaseAuth  # slow to import, and seldom needed

    with SupabaseAuth(signed.url, signed.publishable_key) as auth:
        return auth.refresh(signed)


def store_of(settings: Settings) -> "Store":
    """Return where the settings say that sign-ins are kept."""
    from crossfade.people.token_store import default_folder, open_store

    return open_store(settings.config_dir or default_folder(), settings.token_store)
