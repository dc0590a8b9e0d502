"""Where throw-away databases keep their files."""

from __future__ import annotations

import shutil
from pathlib import Path


def memory_folder() -> Path | None:
    """Give a folder in memory where there is room; None for the usual one.

    Copying a template database is most of what a SQL test costs, and half of that is the disk.
    """
    memory = Path("/dev/shm")  # a tmpfs on Linux; containers often have a tiny one
    if memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30:
        return memory
    return None
