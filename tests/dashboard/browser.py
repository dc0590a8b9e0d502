"""A real Chromium, wherever the machine has one; else one from npm, which needs no root.

``python -m tests.dashboard.browser`` installs that one, if it is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
)
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crossfade" / "browser"
# It carries the browser inside the package, for Linux on x86-64.
GET = 'import c from "npm:@sparticuz/chromium@^153"; console.log(await c.executablePath());'


def find_chromium() -> str | None:
    """The browser to use: CROSSFADE_TEST_BROWSER, one on the PATH, or the one from npm."""
    named = os.environ.get("CROSSFADE_TEST_BROWSER")
    here = CACHE / "chromium"
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return named or found or (str(here) if here.exists() else None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it headless; as root, and without helper programs, it cannot use its sandbox."""
    path = find_chromium()
    assert path, "no Chromium found"
    own = Path(path).parent == CACHE
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 or own else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, *sandbox], headless=True
        )
        try:
            yield browser
        finally:
            browser.close()


def install() -> None:
    """Get the browser from npm, if there is none and this machine can run it."""
    if find_chromium() or sys.platform != "linux" or os.uname().machine != "x86_64":
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    # It unpacks itself into the temporary folder; what it leaves there is the browser.
    env = {**os.environ, "TMPDIR": str(CACHE)}
    deno = Path(sys.executable).with_name("deno")
    script = CACHE / "get.ts"
    script.write_text(GET)
    done = subprocess.run(
        [deno, "run", "--quiet", "--allow-all", "--node-modules-dir=auto", script],
        env=env,
        cwd=CACHE,
        capture_output=True,
        text=True,
    )
    here = CACHE / "chromium"
    if done.returncode or subprocess.run([here, "--version"], capture_output=True).returncode:
        here.unlink(missing_ok=True)
        print("no Chromium, and the one from npm does not run: its tests will be skipped")


if __name__ == "__main__":
    install()
