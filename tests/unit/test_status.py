"""The status screen: the same judgement as the dashboard, also again and again."""

import json

import pytest
from tests.unit.builders import project
from typer.testing import CliRunner, Result

from crossfade.cli import app
from crossfade.cli.session import Session
from crossfade.core.errors import UnreachableError
from crossfade.testing import FakeGateway


def run(fake: FakeGateway, *args: str) -> Result:
    return CliRunner().invoke(app, ["status", *args], obj=Session(opened=fake, checked=True))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """End --watch after three looks, as Ctrl-C would; the waits between them."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("crossfade.cli.status.time.sleep", sleep)
    return waited


def test_one_screen_says_what_comes_next() -> None:
    result = run(project())
    assert result.exit_code == 0, result.output
    assert "Nothing needs you." in result.stdout
    assert "notes: next 25 % on V2" in result.stdout


def test_json_holds_the_overview_and_the_judgement() -> None:
    found = json.loads(run(project(), "--json").stdout)
    assert (found["concern"], found["signals"]) == ("fine", [])
    assert found["overview"]["pairs"][0]["name"] == "notes"
    assert found["next_steps"]["notes"]["target"] == "25 % on V2"


def test_watch_looks_again_and_says_when_it_cannot(looks: list[float]) -> None:
    fake = project()
    result = run(fake, "--watch", "--interval", "0.5")
    assert (result.exit_code, looks) == (130, [0.5, 0.5, 0.5])
    assert result.stdout.count("Nothing needs you.") == 3


def test_watch_shows_no_old_number_of_an_unreachable_project(looks: list[float]) -> None:
    fake = project()
    fake.fail("overview", UnreachableError("Nothing answers"), times=3)
    result = run(fake, "--watch")
    assert result.stdout.count("Cannot read the project") == 3
    assert "notes" not in result.stdout


def test_watch_as_json_is_one_object_a_line(looks: list[float]) -> None:
    lines = run(project(), "--watch", "--json").stdout.splitlines()
    assert [json.loads(line)["concern"] for line in lines] == ["fine"] * 3
