"""For all tests: nobody is signed in, whatever the developer's own keyring holds."""

import os
import tempfile
from pathlib import Path


def pytest_configure() -> None:
    """Before anything is imported that may read the environment."""
    os.environ["CROSSFADE_TOKEN_STORE"] = "file"
    os.environ["CROSSFADE_CONFIG_DIR"] = str(Path(tempfile.gettempdir(), "crossfade-no-sign-in"))
