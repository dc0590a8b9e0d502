"""Environment -> frozen settings -> where to connect. Read when asked, never at import."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from crossfade.core.errors import ConfigError

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
    supabase_publishable_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"),
    )
    config_dir: Path | None = Field(default=None, validation_alias="CROSSFADE_CONFIG_DIR")
    token_store: Literal["auto", "keyring", "file"] = Field(
        default="auto", validation_alias="CROSSFADE_TOKEN_STORE"
    )
    alert_targets: SecretStr | None = Field(default=None, validation_alias="CROSSFADE_ALERTS")
    alerts_file: Path | None = Field(default=None, validation_alias="CROSSFADE_ALERTS_FILE")
    webhook_secret: SecretStr | None = Field(
        default=None, validation_alias="CROSSFADE_WEBHOOK_SECRET"
    )
    data_dir: Path = Field(default=Path(".crossfade"), validation_alias="CROSSFADE_DATA_DIR")
    actor: str | None = Field(default=None, validation_alias="CROSSFADE_ACTOR")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where to connect, with what, as whom. ``source`` says where that came from.

    ``token`` gives the access token of a signed-in person; ``key`` is publishable then.
    """

    url: str
    key: SecretStr
    actor: str
    source: str = "environment"
    token: Callable[[], str] | None = None


def load_settings() -> Settings:
    """Read the environment."""
    return Settings()


def checked_url(url: str) -> str:
    """Return the URL without a final slash; refuse what cannot be one."""
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


def checked_key(key: SecretStr | None) -> SecretStr:
    """Return the secret key; refuse a missing or publishable one, and what no header can hold."""
    text = key.get_secret_value().strip() if key else ""
    hint = "Take the secret key (sb_secret_...) from the project's settings, API keys"
    if not text:
        raise ConfigError(
            "SUPABASE_URL is set but SUPABASE_SECRET_KEY is not, and nobody is signed in there",
            hint=f"Run crossfade login, or: {hint}",
        )
    if text.startswith("sb_publishable_"):
        raise ConfigError("SUPABASE_SECRET_KEY holds a publishable key", hint=hint)
    if not text.isascii() or any(character.isspace() for character in text):
        raise ConfigError("SUPABASE_SECRET_KEY holds a space or a non-ASCII character", hint=hint)
    return SecretStr(text)
