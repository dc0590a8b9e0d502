"""A running stack for the integration tests, one per test session."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfade import resources
from crossfade.local import LocalStack, StackInfo


@pytest.fixture(scope="session")
def stack_root() -> Iterator[Path]:
    """Give a folder for stacks that the unprivileged PostgreSQL user can reach.

    pytest's own temporary folders are closed to other users, and it closes them again and again.
    """
    root = Path(tempfile.mkdtemp(prefix="crossfade-test-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(stack_root: Path) -> Iterator[LocalStack]:
    """Give the whole project, running: migrations, the chat pair, the chat function."""
    has_chat = (resources.functions_dir() / "chat" / "index.ts").exists()
    has_pair = (resources.pairs_dir() / "chat_messages.sql").exists()
    with LocalStack(
        stack_root / "session",
        functions=("chat",) if has_chat else (),
        pairs=("chat_messages",) if has_pair else (),
        durable=False,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def stack_info(stack: LocalStack) -> StackInfo:
    """Give the addresses and keys of the session's stack."""
    return stack.info
