"""Signed-in people: tokens stay fresh, are kept safely, and never show."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import keyring
import pytest
import respx
from keyring.backend import KeyringBackend
from keyring.backends import fail
from pydantic import SecretStr

from crossfade.core.errors import (
    ConfigError,
    NotAllowedError,
    NotSignedInError,
    ServerFailedError,
    UnauthorizedError,
    UnreachableError,
)
from crossfade.gateway import SupabaseGateway
from crossfade.gateway.auth import SupabaseAuth
from crossfade.people.sign_in import MARGIN_S, Person, SignIn, Store
from crossfade.people.token_store import FileStore, KeyringStore, open_store
from crossfade.project.config import Connection

URL = "https://abcdefgh.supabase.co"
SIGNED = SignIn(URL, "sb_publishable_x", "id-1", "ada@example.com", SecretStr("eyJ.first"),
                SecretStr("refresh-1"), 1000.0)  # fmt: skip


class MemoryKeyring(KeyringBackend):
    """A keyring that works, as far as the library is concerned."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def memory_keyring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    mine = MemoryKeyring()
    keyring.set_keyring(mine)
    yield mine
    keyring.set_keyring(before)


@pytest.fixture(params=["file", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path, memory_keyring: MemoryKeyring) -> Store:
    return open_store(tmp_path / "config", request.param)


# Keeping -----------------------------------------------------------------------------------------


def test_a_store_keeps_one_sign_in_per_project_and_knows_the_latest(store: Store) -> None:
    assert store.load(None) is None
    other = replace(SIGNED, url="https://other.supabase.co", email="bob@example.com")
    store.save(SIGNED)
    store.save(other)
    assert store.load(URL) == SIGNED
    assert store.load(None) == other
    store.forget(other.url)
    store.forget(other.url)
    assert (store.load(other.url), store.load(None), store.load(URL)) == (None, None, SIGNED)
    store.forget(URL)
    assert store.load(URL) is None


def test_a_file_of_tokens_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FileStore(tmp_path / "config").save(SIGNED)
    finally:
        os.umask(before)
    path = tmp_path / "config" / "sign_in.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others can read it"):
        FileStore(tmp_path / "config").load(URL)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"https://abcdefgh.supabase.co": "{}"}'])
def test_a_damaged_file_is_no_sign_in_or_a_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "sign_in.json").write_text(text)
    (tmp_path / "sign_in.json").chmod(0o600)
    if text in {"", "{"}:
        with pytest.raises(ConfigError, match="Cannot read") as error:
            FileStore(tmp_path).load(URL)
        assert "crossfade login" in error.value.line()
    else:
        assert FileStore(tmp_path).load(URL) is None


def test_without_a_usable_keyring_the_file_is_used(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    try:
        assert isinstance(open_store(tmp_path), FileStore)
        with pytest.raises(ConfigError, match="no usable one"):
            open_store(tmp_path, "keyring")
    finally:
        keyring.set_keyring(before)


def test_a_usable_keyring_is_preferred_and_nothing_is_on_disk(
    tmp_path: Path, memory_keyring: MemoryKeyring
) -> None:
    found = open_store(tmp_path)
    assert isinstance(found, KeyringStore)
    found.save(SIGNED)
    assert not any("refresh-1" in path.read_text() for path in tmp_path.rglob("*.json"))
    assert isinstance(open_store(tmp_path, "file"), FileStore)


def test_no_token_shows_in_a_repr(tmp_path: Path) -> None:
    assert "eyJ" not in repr(SIGNED)
    assert "refresh-1" not in f"{SIGNED}"


# Staying fresh -----------------------------------------------------------------------------------


class CountingAuth:
    """Gives a new pair of tokens, as often as it is asked."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def refresh(self, signed: SignIn) -> SignIn:
        self.used.append(signed.refresh_token.get_secret_value())
        number = len(self.used) + 1
        return replace(
            signed,
            access_token=SecretStr(f"access-{number}"),
            refresh_token=SecretStr(f"refresh-{number}"),
            expires_at=signed.expires_at + 3600,
        )


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    found = FileStore(tmp_path)
    found.save(SIGNED)
    return found


def test_a_token_is_refreshed_once_it_is_about_to_end_and_kept(files: FileStore) -> None:
    auth, clock = CountingAuth(), [1000 - MARGIN_S]
    person = Person(SIGNED, files, auth.refresh, now=lambda: clock[0])
    assert person.access_token() == "eyJ.first"
    clock[0] += 1
    assert [person.access_token() for _ in range(3)] == ["access-2"] * 3
    assert auth.used == ["refresh-1"]
    kept = files.load(URL)
    assert kept is not None
    assert kept.refresh_token.get_secret_value() == "refresh-2"


def test_two_processes_use_a_refresh_token_once(files: FileStore) -> None:
    auth = CountingAuth()
    one, two = (Person(SIGNED, files, auth.refresh, now=lambda: 990.0) for _ in range(2))
    assert (one.access_token(), two.access_token()) == ("access-2", "access-2")
    assert auth.used == ["refresh-1"]


def test_many_threads_refresh_once(files: FileStore) -> None:
    auth, found = CountingAuth(), []
    person = Person(SIGNED, files, auth.refresh, now=lambda: 990.0)
    threads = [threading.Thread(target=lambda: found.append(person.access_token()))
               for _ in range(8)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == ["access-2"] * 8
    assert auth.used == ["refresh-1"]


def test_who_signed_out_elsewhere_is_told(files: FileStore) -> None:
    files.forget(URL)
    person = Person(SIGNED, files, CountingAuth().refresh, now=lambda: 2000.0)
    with pytest.raises(NotSignedInError, match="signed out") as error:
        person.access_token()
    assert "crossfade login" in error.value.line()


def test_a_sign_in_of_somebody_else_is_not_taken_over(files: FileStore) -> None:
    files.save(replace(SIGNED, user_id="id-2", expires_at=9999.0))
    with pytest.raises(NotSignedInError):
        Person(SIGNED, files, CountingAuth().refresh, now=lambda: 2000.0).access_token()


# Auth's answers ----------------------------------------------------------------------------------

TOKEN = f"{URL}/auth/v1/token"
USER = {"id": "id-1", "email": "ada@example.com", "aud": "authenticated", "app_metadata": {},
        "user_metadata": {}, "created_at": "2026-01-01T00:00:00Z"}  # fmt: skip
SESSION = {"access_token": "a", "refresh_token": "r", "expires_in": 3600, "token_type": "bearer",
           "expires_at": 5, "user": USER}  # fmt: skip


@contextmanager
def auth() -> Iterator[SupabaseAuth]:
    with SupabaseAuth(URL, "sb_publishable_x", now=lambda: 100.0) as found:
        yield found


@respx.mock
def test_the_end_of_a_token_is_on_the_clock_of_this_machine() -> None:
    respx.post(TOKEN).respond(200, json=SESSION)
    with auth() as found:
        assert found.sign_in("ada@example.com", SecretStr("pw")).expires_at == 3700.0


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"code": "invalid_credentials", "msg": "Invalid login"}, UnauthorizedError),
        (422, {"code": "email_not_confirmed", "msg": "Email not confirmed"}, UnauthorizedError),
        (429, {"code": "over_request_rate_limit", "msg": "slow down"}, ServerFailedError),
        (500, {"msg": "broken"}, ServerFailedError),
        (503, {"msg": "down"}, ServerFailedError),
    ],
)
@respx.mock
def test_a_refused_sign_in_is_one_line_without_the_password(
    status: int, body: dict[str, str], kind: type[Exception]
) -> None:
    respx.post(TOKEN).respond(status, json=body, headers={"x-supabase-api-version": "2024-01-01"})
    with auth() as found, pytest.raises(kind) as error:
        found.sign_in("ada@example.com", SecretStr("correct horse"))
    assert "correct horse" not in str(error.value)


@respx.mock
def test_an_unreachable_auth_is_no_wrong_password() -> None:
    respx.post(TOKEN).mock(side_effect=httpx.ConnectError("refused"))
    with auth() as found, pytest.raises(UnreachableError):
        found.sign_in("ada@example.com", SecretStr("pw"))


@respx.mock
def test_a_revoked_refresh_token_asks_for_a_new_sign_in() -> None:
    respx.post(TOKEN).respond(400, json={"code": "refresh_token_not_found", "msg": "gone"})
    with auth() as found, pytest.raises(NotSignedInError) as error:
        found.refresh(SIGNED)
    assert "crossfade login" in error.value.line()


@respx.mock
def test_signing_out_twice_is_no_error() -> None:
    respx.post(f"{URL}/auth/v1/logout").respond(403, json={"msg": "session not found"})
    with auth() as found:
        found.sign_out(SIGNED)


# The gateway of a person -------------------------------------------------------------------------


def person_gateway() -> SupabaseGateway:
    tokens = iter(["t1", "t2", "t3"])
    key = SecretStr("sb_publishable_x")
    connection = Connection(URL, key, "ada", token=lambda: next(tokens))
    return SupabaseGateway(connection, sleep=lambda _: None)


@respx.mock
def test_a_person_calls_through_the_door_with_a_token_asked_for_each_time() -> None:
    door = respx.post(f"{URL}/rest/v1/rpc/operate").respond(
        200, json={"actor": "ada", "role": "viewer"}
    )
    with person_gateway() as opened:
        assert opened.whoami().role == "viewer"
        opened.whoami()
    sent = [call.request for call in door.calls]
    assert json.loads(sent[0].content) == {"rpc": "whoami", "params": {}}
    assert [item.headers["authorization"] for item in sent] == ["Bearer t1", "Bearer t2"]
    assert sent[0].headers["apikey"] == "sb_publishable_x"


@respx.mock
def test_a_refused_token_says_to_sign_in_and_a_refused_role_says_who_helps() -> None:
    door = respx.post(f"{URL}/rest/v1/rpc/operate")
    door.respond(401, json={"code": "PGRST301", "message": "JWT expired"})
    with person_gateway() as opened, pytest.raises(NotSignedInError, match="sign-in"):
        opened.whoami()
    details = json.dumps({"code": "CF020", "needed": "operator", "role": "viewer"})
    door.respond(403, json={"code": "PT403", "message": "Cannot", "details": details, "hint": "x"})
    with person_gateway() as opened, pytest.raises(NotAllowedError):
        opened.engage_kill_switch("disable_v2_messages", reason=None)


@respx.mock
def test_who_is_no_operator_is_told_that_and_not_that_the_schema_is_old() -> None:
    respx.get(url__startswith=f"{URL}/rest/v1/control").respond(200, json=[])
    details = json.dumps({"code": "CF020", "needed": "viewer", "role": None})
    respx.post(f"{URL}/rest/v1/rpc/operate").respond(
        403, json={"code": "PT403", "message": "no operator", "details": details, "hint": "x"}
    )
    with person_gateway() as opened, pytest.raises(NotAllowedError):
        opened.check_schema()
