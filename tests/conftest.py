"""For all tests: nobody is signed in, whatever the developer's own keyring holds."""

import os
import tempfile
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Before anything is imported that may read the environment."""
    os.environ["CROSSFADE_TOKEN_STORE"] = "file"
    os.environ["CROSSFADE_CONFIG_DIR"] = str(Path(tempfile.gettempdir(), "crossfade-no-sign-in"))


@pytest.hookimpl(tryfirst=True)  # xdist looks for groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a project that takes seconds to start, and begin with long tests.

    Each worker that gets one of these tests starts it for itself; one that has nothing left to do
    waits for the other.
    """
    items.sort(key=lambda item: "integration" not in item.path.parts)
    for item in items:
        fixtures: dict[str, list[pytest.FixtureDef[object]]] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
        # The chat function's project goes from stage to stage.
        shares = "project" in fixtures or any(
            f.scope == "module" for found in fixtures.values() for f in found
        )
        if "integration" in item.path.parts and shares:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find out when pytest-xdist does not keep tests together: it would only take longer."""
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if session.config.getoption("loadgroup", False) and not all("@" in i.nodeid for i in grouped):
        pytest.exit("pytest-xdist does not name groups: it does not fit this pytest", returncode=4)
