"""Scripts that use the official clients for JavaScript: run to their end, told as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from crossfade.local.deno_runtime import deno_bin, deno_environment


def told_by(script: Path, *arguments: str) -> Any:
    """Run a script with these arguments, which must succeed; return the JSON that it printed."""
    done = subprocess.run(
        [
            str(deno_bin()),
            *("run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "-A"),
            *(str(script), *arguments),
        ],
        capture_output=True,
        text=True,
        env=deno_environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
