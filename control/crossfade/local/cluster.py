"""The files of a PostgreSQL cluster: making them, and what a former server left in them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from crossfade.local.errors import StackStartError
from crossfade.local.processes import ChildOptions, spawn
from crossfade.local.system_user import SystemUser, make_reachable

SUPERUSER = "supabase_admin"


def make_cluster(cluster: Path, bin_dir: Path, user: SystemUser | None, log: Path) -> None:
    """Run initdb unless the cluster exists.

    Into a neighbour folder, renamed when complete, so that half a cluster never counts.

    Args:
        cluster: folder of the cluster.
        bin_dir: folder of initdb.
        user: who owns the cluster, None for ourselves.
        log: gets what initdb says.

    Raises:
        StackStartError: initdb failed, or the cluster is of another version.
    """
    version = _major_version(bin_dir)
    if (cluster / "PG_VERSION").exists():
        found = (cluster / "PG_VERSION").read_text().strip()
        if found != str(version):
            raise StackStartError(f"{cluster} is of PostgreSQL {found}, the server is {version}")
        _hand_over(cluster, bin_dir, user)
        return
    unfinished = cluster.with_name(cluster.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    if cluster.exists():
        cluster.rmdir()  # refuses a folder that holds something else
    unfinished.mkdir(parents=True, mode=0o700)
    _hand_over(unfinished, bin_dir, user)
    command: list[str | Path] = [
        bin_dir / "initdb",
        "--auth=trust",
        "--encoding=UTF8",
        *_locale(version),
        "--no-sync",
        f"--username={SUPERUSER}",
        "--pgdata",
        unfinished,
    ]
    initdb = spawn("initdb", command, ChildOptions(log=log, user=user))
    if initdb.process.wait(120) != 0:
        raise StackStartError(f"initdb failed: {initdb.log_tail()}")
    unfinished.rename(cluster)


def _major_version(bin_dir: Path) -> int:
    try:
        told = subprocess.run(
            [str(bin_dir / "initdb"), "--version"], capture_output=True, text=True, check=True
        )
        return int(re.findall(r"\d+", told.stdout)[0])
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise StackStartError(f"Cannot run initdb of {bin_dir}: {error}") from error


def _locale(version: int) -> list[str]:
    """Order by code point and know all letters, on every machine, as far as the version can."""
    if version >= 17:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C.UTF-8"] if sys.platform == "linux" else ["--no-locale"]


def _hand_over(cluster: Path, bin_dir: Path, user: SystemUser | None) -> None:
    if user is None:
        return
    make_reachable(cluster, user)
    make_reachable(bin_dir / "postgres", user)
    os.chown(cluster, user.uid, user.gid)


def end_leftover(cluster: Path) -> None:
    """End a server of a former run that still holds the cluster."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline")
        # Only when the process is provably this cluster's server: pids are reused.
        if str(cluster) in command.read_text().split("\0"):
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + 10
            while command.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
