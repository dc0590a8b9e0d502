"""The Deno binary, and the npm packages of the gateway."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from platformdirs import user_cache_path

from crossfade.local.errors import StackStartError

GATEWAY_SOURCES = Path(__file__).parent / "deno"
_MANIFEST = ("package.json", "deno.json", "deno.lock")
_INSTALL_TIMEOUT_S = 600


def deno_bin() -> Path:
    """Return the Deno that pip installed beside our Python, else one on the PATH.

    Raises:
        StackStartError: there is none.
    """
    beside = Path(sys.executable).parent / "deno"
    if beside.exists():
        return beside
    found = shutil.which("deno")
    if found is None:
        raise StackStartError("Deno is not installed: pip install 'crossfade[local]' brings it")
    return Path(found)


def install_gateway(progress: Callable[[str], None]) -> Path:
    """Make the gateway ready to run in the user's cache; return the folder with its stack.ts.

    Installed once per lock file for all stacks; the package's own folder may be read-only.

    Raises:
        StackStartError: the packages cannot be installed.
    """
    home = _cache_dir() / f"gateway-{_hash(GATEWAY_SOURCES / name for name in _MANIFEST)}"
    if not (home / "node_modules").exists():
        progress("installing the gateway's npm packages (first start only)")
        _install(home)
    sources = sorted(GATEWAY_SOURCES.rglob("*.ts"))
    target = home / f"src-{_hash(sources)}"
    if not target.exists():
        _copy_sources(sources, target)
    return target


def deno_environment() -> dict[str, str]:
    """Return our environment with Deno's own chatter off."""
    return {**os.environ, "DENO_NO_UPDATE_CHECK": "1", "DENO_NO_PROMPT": "1", "NO_COLOR": "1"}


def _cache_dir() -> Path:
    given = os.environ.get("CROSSFADE_CACHE_DIR")
    return Path(given) / "crossfade" if given else user_cache_path("crossfade", appauthor=False)


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _install(home: Path) -> None:
    """Install into a neighbour folder and rename it, so that half an installation never counts."""
    unfinished = home.with_name(f"{home.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in _MANIFEST:
        shutil.copy2(GATEWAY_SOURCES / name, unfinished / name)
    result = subprocess.run(
        [str(deno_bin()), "install", "--frozen", "--quiet"],
        cwd=unfinished,
        env=deno_environment(),
        capture_output=True,
        text=True,
        timeout=_INSTALL_TIMEOUT_S,
    )
    if result.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise StackStartError(f"Cannot install the gateway's packages: {result.stderr.strip()}")
    try:
        unfinished.rename(home)
    except OSError:  # another stack was faster
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy_sources(sources: list[Path], target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    for source in sources:
        copy = unfinished / source.relative_to(GATEWAY_SOURCES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)
    try:
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
