"""Where sign-ins are kept: the system keyring, else a file that only its owner can read."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, Literal

from platformdirs import user_config_path

from crossfade.core.errors import ConfigError
from crossfade.people.sign_in import SignIn, Store

Kind = Literal["auto", "keyring", "file"]
SERVICE: Final = "crossfade"
LATEST: Final = "latest"


def open_store(folder: Path, kind: Kind = "auto") -> Store:
    """Return the store to use: the keyring if this system has one that works, else the file.

    Raises:
        ConfigError: the keyring was asked for and there is none.
    """
    keyring = None if kind == "file" else _keyring()
    if keyring is not None:
        return KeyringStore(keyring, folder)
    if kind == "keyring":
        raise ConfigError(
            "CROSSFADE_TOKEN_STORE is keyring, and there is no usable one",
            hint="Run: pip install 'crossfade[keyring]', or use CROSSFADE_TOKEN_STORE=file",
        )
    return FileStore(folder)


def default_folder() -> Path:
    """The user's folder for settings of programs, as the system has it."""
    return user_config_path("crossfade", appauthor=False)


class FileStore:
    """``sign_in.json``, mode 0600, replaced in one step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "sign_in.json"

    def load(self, url: str | None) -> SignIn | None:
        """Read it; a file that others can read is refused, as ssh does with keys."""
        found = self._read()
        text = found.get(url if url is not None else found.get(LATEST, ""))
        return SignIn.load(text) if text else None

    def save(self, signed: SignIn) -> str:
        """Keep it beside those of other projects."""
        self._write({**self._read(), signed.url: signed.dump(), LATEST: signed.url})
        return str(self._path)

    def forget(self, url: str) -> None:
        """Take it out; the last one takes the file with it."""
        found = self._read()
        left = {name: text for name, text in found.items() if name != url and text != url}
        if not left:
            self._path.unlink(missing_ok=True)
        elif left != found:
            self._write(left)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold an advisory lock on a file beside it."""
        with _locked(self._folder):
            yield

    def _read(self) -> dict[str, str]:
        try:
            with self._path.open(encoding="utf-8") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise ConfigError(
                        f"{self._path} holds tokens and others can read it",
                        hint=f"Run: chmod 600 {self._path}",
                    )
                found = json.load(file)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"Cannot read {self._path}: {type(error).__name__}",
                hint="Remove it and run: crossfade login",
            ) from error
        return found if isinstance(found, dict) else {}

    def _write(self, found: dict[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        # Created with its mode: there is no moment at which others could open it.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(found, file)
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)


class KeyringStore:
    """The system keyring: one password per project, named by its URL."""

    def __init__(self, keyring: ModuleType, folder: Path) -> None:
        self._keyring = keyring
        self._folder = folder

    def load(self, url: str | None) -> SignIn | None:
        """Ask the keyring."""
        name = url if url is not None else self._keyring.get_password(SERVICE, LATEST)
        text = self._keyring.get_password(SERVICE, name) if name else None
        return SignIn.load(text) if text else None

    def save(self, signed: SignIn) -> str:
        """Give it to the keyring."""
        self._keyring.set_password(SERVICE, signed.url, signed.dump())
        self._keyring.set_password(SERVICE, LATEST, signed.url)
        return "the system keyring"

    def forget(self, url: str) -> None:
        """Delete it."""
        if self._keyring.get_password(SERVICE, url) is not None:
            self._keyring.delete_password(SERVICE, url)
        if self._keyring.get_password(SERVICE, LATEST) == url:
            self._keyring.delete_password(SERVICE, LATEST)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """As the file store: a keyring has no locks."""
        with _locked(self._folder):
            yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "refresh.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _keyring() -> ModuleType | None:
    """The library, when a backend that keeps secrets is behind it."""
    try:
        import keyring
        from keyring.backends import fail
    except ImportError:
        return None
    backend = keyring.get_keyring()
    # Below 1 are the null, the failing and the plain-text ones.
    if isinstance(backend, fail.Keyring) or float(getattr(backend, "priority", 0)) < 1:
        return None
    return keyring
