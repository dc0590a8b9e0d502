"""A real Chromium, wherever the machine has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
)


def find_chromium() -> str | None:
    """The browser to use: CROSSFADE_TEST_BROWSER, else one on the PATH."""
    named = os.environ.get("CROSSFADE_TEST_BROWSER")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it headless; as root it refuses to run in its sandbox."""
    path = find_chromium()
    assert path, "no Chromium found"
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, *sandbox], headless=True
        )
        try:
            yield browser
        finally:
            browser.close()
