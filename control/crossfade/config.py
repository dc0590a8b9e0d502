"""Environment -> frozen settings -> where to connect. Read when asked, never at import."""

import getpass
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from crossfade.errors import ConfigError

_URL = re.compile(r"https?://[^\s/]+(/[^\s]*)?")


class Settings(BaseSettings):
    """What the environment says. Keys are ``SecretStr``: no repr, log or error shows them."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    supabase_url: str | None = Field(default=None, validation_alias="SUPABASE_URL")
    supabase_secret_key: SecretStr | None = Field(
        default=None,
        # The second name is what projects older than sb_secret_ keys have.
        validation_alias=AliasChoices("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"),
    )
    data_dir: Path = Field(default=Path(".crossfade"), validation_alias="CROSSFADE_DATA_DIR")
    actor: str | None = Field(default=None, validation_alias="CROSSFADE_ACTOR")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where to connect, with what, as whom. ``source`` says where that came from."""

    url: str
    key: SecretStr
    actor: str
    source: str = "environment"


def load_settings() -> Settings:
    """Read the environment."""
    return Settings()


def connect_to(
    settings: Settings, *, find_stack: Callable[[Path], Connection | None] | None = None
) -> Connection:
    """Decide where to connect: the environment, else the embedded stack of the data directory.

    Args:
        settings: what the environment and the command line say.
        find_stack: looks for a running embedded stack; the default asks ``crossfade.local``.

    Raises:
        ConfigError: when neither says enough, or a value cannot be right.
    """
    actor = settings.actor or _login_name()
    url = (settings.supabase_url or "").strip()
    key = settings.supabase_secret_key
    if not url and not key:
        found = (find_stack or find_local_stack)(settings.data_dir)
        if found:
            return Connection(found.url, found.key, actor, found.source)
        raise ConfigError(
            f"No SUPABASE_URL, and no embedded stack runs in {settings.data_dir}",
            hint="Set SUPABASE_URL and SUPABASE_SECRET_KEY, or start one with: crossfade up",
        )
    return Connection(_checked_url(url), _checked_key(key), actor)


def _checked_url(url: str) -> str:
    if not url:
        raise ConfigError(
            "SUPABASE_SECRET_KEY is set but SUPABASE_URL is not",
            hint="Set it to the project's URL, for example https://abcdefgh.supabase.co",
        )
    if not _URL.fullmatch(url):
        raise ConfigError(
            f'SUPABASE_URL "{url}" is not a URL',
            hint="It looks like https://abcdefgh.supabase.co",
        )
    return url.rstrip("/")


def _checked_key(key: SecretStr | None) -> SecretStr:
    text = key.get_secret_value().strip() if key else ""
    hint = "Take the secret key (sb_secret_...) from the project's settings, API keys"
    if not text:
        raise ConfigError("SUPABASE_URL is set but SUPABASE_SECRET_KEY is not", hint=hint)
    if text.startswith("sb_publishable_"):
        raise ConfigError("SUPABASE_SECRET_KEY holds a publishable key", hint=hint)
    if not text.isascii() or any(character.isspace() for character in text):
        raise ConfigError("SUPABASE_SECRET_KEY holds a space or a non-ASCII character", hint=hint)
    return SecretStr(text)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "crossfade"  # no passwd entry, as in many containers


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
