"""The unprivileged user PostgreSQL runs as when we are root."""

import contextlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SystemUser:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def server_user() -> SystemUser | None:
    """Return the user to run PostgreSQL as: None (ourselves) unless we are root.

    PostgreSQL refuses to run as root. The name is the one pgserver gives its user, so that a
    machine gets only one; "nobody" is the way out where none can be made.
    """
    if os.name == "nt" or os.geteuid() != 0:
        return None
    return _find_user("pgserver") or _create_user("pgserver") or _find_user("nobody")


def _find_user(name: str) -> SystemUser | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_user(name: str) -> SystemUser | None:
    with contextlib.suppress(OSError):
        subprocess.run(["useradd", "--system", "--shell", "/bin/false", name], capture_output=True)
    return _find_user(name)  # also when another process made it at the same moment


def make_reachable(path: Path, user: SystemUser) -> list[Path]:
    """Let the user pass through every folder above the path; return the folders changed.

    Adds only the right to pass (x), never to list, and only where it is missing.
    """
    changed = []
    for folder in path.resolve().parents:
        info = folder.stat()
        if _may_pass(info, user):
            continue
        folder.chmod(info.st_mode | stat.S_IXOTH)
        changed.append(folder)
    return changed


def _may_pass(info: os.stat_result, user: SystemUser) -> bool:
    if info.st_uid == user.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == user.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)
