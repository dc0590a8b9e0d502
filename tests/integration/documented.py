"""Walk-throughs of the documents, run as they stand there: blocks of shell and of files."""

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from crossfade.cli import app

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:--|//) file: (\S+)\n")


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        file: the path it is to be written to; None for commands.
        is_output: what the command before it prints, among other lines.
    """

    text: str
    file: str | None = None
    is_output: bool = False


def blocks(page: Path) -> Iterator[Block]:
    """Return the blocks of a page that are to be run or written, in order."""
    for language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        match = _FILE.match(text)
        if match:
            yield Block(text[match.end() :], match[1])
        elif language in ("sh", "output"):
            yield Block(text, is_output=language == "output")


@dataclass
class Walk:
    """A person in a project folder. ``said`` holds what each command printed."""

    folder: Path
    environment: Mapping[str, str]
    said: dict[str, str]

    def write(self, block: Block) -> None:
        """Write a file; a star in its name stands for what a command made."""
        assert block.file
        found = sorted(self.folder.glob(block.file))
        path = found[-1] if found else self.folder / block.file
        assert "*" not in str(path), f"no file {block.file}"
        path.write_text(block.text, encoding="utf-8")

    def expect(self, block: Block) -> None:
        """Compare with what the last command printed, on both of its streams."""
        command, said = list(self.said.items())[-1]
        missing = [line for line in block.text.splitlines() if line not in said]
        assert not missing, f"{command} did not print {missing} but:\n{said}"

    def commands(self, block: Block) -> list[str]:
        """Return the lines of a shell block."""
        joined = block.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]

    def run(self, command: str) -> str:
        """Run one line; it must succeed."""
        self.said.pop(command, None)  # the last one is the last of the dict
        if command.startswith("crossfade "):
            return self._run_here(command)
        done = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.said[command] = done.stdout + done.stderr
        return done.stdout

    def _run_here(self, command: str) -> str:
        """The same without a process of its own, which is most of what a command costs.

        That the command works as a program is what test_wheel.py and test_cli_project.py prove.
        """
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(app, shlex.split(command)[1:], env=self.environment)
        assert done.exit_code == 0, f"{command}\n{done.output}"
        self.said[command] = done.output
        return done.stdout
