"""Where to connect: the environment, else the embedded stack; wrong values are named."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from crossfade.connect import connect_to
from crossfade.core.errors import ConfigError
from crossfade.project.config import Connection, Settings, load_settings

KEY = "sb_secret_0123456789"


def settings(**values: object) -> Settings:
    return Settings.model_validate({"data_dir": "nowhere", **values})


def no_stack(_: Path) -> Connection | None:
    return None


def test_the_environment_wins_over_the_stack() -> None:
    given = settings(supabase_url="https://a.supabase.co/", supabase_secret_key=KEY, actor="ann")
    found = connect_to(given, find_stack=lambda _: Connection("http://x", SecretStr("y"), ""))
    assert (found.url, found.actor) == ("https://a.supabase.co", "ann")


@pytest.mark.parametrize("name", ["SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"])
def test_both_names_of_the_key_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("SUPABASE_URL", "https://a.supabase.co")
    monkeypatch.setenv(name, KEY)
    assert connect_to(load_settings()).key.get_secret_value() == KEY


def test_without_an_environment_the_stack_is_used() -> None:
    stack = Connection("http://127.0.0.1:5", SecretStr(KEY), "", "embedded stack")
    found = connect_to(settings(actor="ann"), find_stack=lambda _: stack)
    assert (found.url, found.actor, found.source) == ("http://127.0.0.1:5", "ann", "embedded stack")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "nowhere"),
        ({"supabase_url": "https://a.supabase.co"}, "SUPABASE_SECRET_KEY"),
        ({"supabase_secret_key": KEY}, "SUPABASE_URL"),
        ({"supabase_url": "abcdefgh", "supabase_secret_key": KEY}, '"abcdefgh"'),
        ({"supabase_url": "ftp://a", "supabase_secret_key": KEY}, '"ftp://a"'),
        ({"supabase_url": "https://a.b", "supabase_secret_key": "sb_publishable_x"}, "publishable"),
        ({"supabase_url": "https://a.b", "supabase_secret_key": "two words"}, "space"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_the_way_out(
    values: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError) as error:
        connect_to(settings(**values), find_stack=no_stack)
    assert named in error.value.line()
    assert error.value.hint
    assert error.value.exit_code == 2
    assert "two words" not in error.value.line()


def test_settings_never_show_the_key() -> None:
    assert KEY not in repr(settings(supabase_secret_key=KEY))
