"""The generations of Deno that functions run in: the newest, and what hosted projects have."""

import json
import platform
import subprocess
import sys
from pathlib import Path

from crossfade.local.deno_runtime import deno_bin, deno_environment

HOSTED = "2.1.4"
GENERATIONS = ("newest", HOSTED)
_ROOT = Path(__file__).resolve().parents[2]


def deno_of(generation: str) -> Path:
    """Return a Deno; the hosted one is fetched once into build/, from npm and by the newest."""
    if generation == "newest":
        return deno_bin()
    system = {"linux": "linux", "darwin": "darwin"}[sys.platform]
    machine = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    package = f"@deno/{system}-{machine}" + ("-glibc" if system == "linux" else "")
    folder = _ROOT / "build" / f"deno-{generation}"
    program = folder / "node_modules" / package / "deno"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {"private": True, "dependencies": {package: generation}}
        (folder / "package.json").write_text(json.dumps(manifest))
        subprocess.run(
            [deno_bin(), "install", "--quiet"],
            cwd=folder,
            env=deno_environment(),
            check=True,
            timeout=240,
        )
    return program


def environment_of(generation: str) -> dict[str, str]:
    """Return the environment: each generation has a cache of its own."""
    environment = {**deno_environment(), "NO_COLOR": "1"}
    if generation != "newest":
        # The newest trusts the system's certificates by itself.
        environment.setdefault("DENO_TLS_CA_STORE", "system")
        environment["DENO_DIR"] = str(_ROOT / "build" / f"deno-{generation}" / "cache")
    return environment
