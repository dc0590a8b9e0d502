"""People on the real stack: sign in, act within one's role, be named, sign out."""

import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.local import LocalStack, StackInfo

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Desk:
    """A terminal of somebody: a folder for tokens, no secret key."""

    info: StackInfo
    folder: str
    email: str

    def run(self, *args: str, key: bool = False, **env: str) -> Result:
        given = {
            "SUPABASE_URL": self.info.api_url,
            "SUPABASE_PUBLISHABLE_KEY": self.info.publishable_key,
            "SUPABASE_SECRET_KEY": self.info.secret_key if key else "",
            "CROSSFADE_CONFIG_DIR": self.folder,
            "CROSSFADE_TOKEN_STORE": "file",
            **env,
        }
        return CliRunner().invoke(app, list(args), env=given, input=f"{PASSWORD}\n")

    def ok(self, *args: str, key: bool = False) -> Result:
        result = self.run(*args, key=key)
        assert result.exit_code == 0, result.output
        return result

    def login(self) -> Result:
        return self.run("login", "--email", self.email, "--password-stdin")


@pytest.fixture
def desk(stack: LocalStack, http: httpx.Client) -> Iterator[Desk]:
    email = f"{uuid.uuid4()}@example.com"
    http.post(
        f"{stack.info.api_url}/auth/v1/signup",
        headers={"apikey": stack.info.publishable_key},
        json={"email": email, "password": PASSWORD},
    ).raise_for_status()
    with tempfile.TemporaryDirectory(prefix="crossfade-desk-") as folder:
        yield Desk(stack.info, folder, email)


def add(desk: Desk, role: str) -> None:
    desk.ok("operator", "add", desk.email, "--role", role, "--reason", "t", "--yes", key=True)


def test_from_the_first_login_to_the_logout(desk: Desk) -> None:
    refused = desk.login()
    assert refused.exit_code == 1
    assert "CF020" in refused.output
    add(desk, "operator")
    assert "operator" in desk.login().output
    me = json.loads(desk.ok("whoami", "--json").stdout)
    assert (me["actor"], me["role"], me["source"]) == (
        desk.email, "operator", f"signed in as {desk.email}"
    )  # fmt: skip

    name = f"mine_{uuid.uuid4().hex[:8]}"
    desk.ok("flags", "set", name, "--create", "--reason", "t", "--yes")
    desk.ok("flags", "set", name, "--percentage", "12.5", "--reason", "t", "--yes")
    audit = json.loads(desk.ok("audit", "list", "--object", name, "--json").stdout)
    assert {row["actor"] for row in audit} == {desk.email}
    assert {row["actor_id"] for row in audit} == {me["user_id"]}

    desk.ok("logout")
    assert not (Path(desk.folder) / "sign_in.json").exists()
    out = desk.run("whoami")
    assert out.exit_code == 2
    assert "crossfade login" in out.output
    assert "nothing to do" in desk.ok("logout").output


def test_a_viewer_reads_and_an_operator_is_no_admin(desk: Desk) -> None:
    add(desk, "viewer")
    assert desk.login().exit_code == 0
    for read in (("flags", "list"), ("audit", "list"), ("kill", "list"), ("operator", "list")):
        desk.ok(*read)
    for change in (
        ("kill", "engage", "disable_new_tools"),
        ("flags", "set", "enable_caching", "--enable", "--reason", "t", "--yes"),
        ("snapshot", "take", "--reason", "t"),
    ):
        refused = desk.run(*change)
        assert refused.exit_code == 1, change
        assert "CF020" in refused.output
    desk.ok("operator", "set-role", desk.email, "operator", "--reason", "t", "--yes", key=True)
    desk.ok("snapshot", "take", "--reason", "t")
    refused = desk.run("settings", "set", "wilson_z", "1", "--reason", "t", "--yes")
    assert "needs admin" in refused.output
    desk.ok("operator", "remove", desk.email, "--reason", "t", "--yes", key=True)
    assert "CF020" in desk.run("flags", "list").output


def test_a_sign_in_outlives_its_access_token(desk: Desk) -> None:
    add(desk, "viewer")
    assert desk.login().exit_code == 0
    path = Path(desk.folder) / "sign_in.json"
    before = json.loads(path.read_text())
    old = json.loads(before[desk.info.api_url])
    path.write_text(json.dumps({**before, desk.info.api_url: json.dumps({**old, "expires_at": 0})}))
    desk.ok("whoami")
    new = json.loads(json.loads(path.read_text())[desk.info.api_url])
    assert new["refresh_token"] != old["refresh_token"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_password_and_a_secret_key_are_refused_without_showing_either(desk: Desk) -> None:
    wrong = desk.run("login", "--email", f"x{desk.email}", "--password-stdin")
    assert wrong.exit_code == 1
    key = desk.run(
        *("login", "--email", desk.email, "--password-stdin"),
        SUPABASE_PUBLISHABLE_KEY=desk.info.secret_key,
    )
    assert key.exit_code == 2
    for result in (wrong, key):
        assert PASSWORD not in result.output
        assert desk.info.secret_key not in result.output


def test_the_secret_key_wins_over_a_sign_in_and_says_so(desk: Desk) -> None:
    add(desk, "viewer")
    assert desk.login().exit_code == 0
    me = json.loads(desk.ok("whoami", "--json", key=True).stdout)
    assert (me["role"], me["source"]) == (None, "environment")
