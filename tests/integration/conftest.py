"""Running stacks for the integration tests, started once per test session."""

import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from supabase import Client, ClientOptions, create_client

from crossfade.local import LocalStack, StackInfo
from crossfade.project import resources
from tests.folders import memory_folder

from .chat_project import Project, User, sign_up_user

FIXTURES = Path(__file__).parent / "fixtures"
CLI_VERSION = "3.1.0"

# A shell without job control starts background commands with SIGINT ignored, and their children
# inherit that: tests that interrupt a command would wait for ever. A handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack_root() -> Iterator[Path]:
    """Give a folder for stacks that the unprivileged PostgreSQL user can reach.

    pytest's own temporary folders are closed to other users, and it closes them again and again.
    """
    root = Path(tempfile.mkdtemp(prefix="crossfade-test-", dir=memory_folder()))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def fresh_dir(stack_root: Path) -> Callable[[str], Path]:
    """Give a function that makes a new folder for a stack or a server.

    A worker that takes tests over from another one may set a module up twice: the second project
    must not find the first one's data.
    """

    def make(name: str) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=stack_root))
        folder.chmod(0o755)
        return folder

    return make


@pytest.fixture(scope="session")
def stack(stack_root: Path) -> Iterator[LocalStack]:
    """Give the whole project, running: migrations, the chat pair, the chat function."""
    has_chat = (resources.functions_dir() / "chat" / "index.ts").exists()
    has_pair = (resources.pairs_dir() / "chat_messages.sql").exists()
    with LocalStack(
        stack_root / "project",
        functions=("chat",) if has_chat else (),
        pairs=("chat_messages", "chat_features") if has_pair else (),
        durable=False,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def stack_info(stack: LocalStack) -> StackInfo:
    """Give the addresses and keys of the project's stack."""
    return stack.info


def small_stack(
    data_dir: Path, *, isolates: int = 1, postgres_version: int | None = None
) -> LocalStack:
    """Describe a stack with a few tables and a function of the tests, none of the project's."""
    return LocalStack(
        data_dir,
        functions=("echo",),
        isolates=isolates,
        pairs=(),
        functions_dir=FIXTURES / "functions",
        migrations_dir=FIXTURES / "migrations",
        postgres_version=postgres_version,
        durable=False,
    )


@pytest.fixture(scope="session")
def plain_stack(stack_root: Path) -> Iterator[LocalStack]:
    """Give a running small stack, for tests of the stand-in itself."""
    with small_stack(stack_root / "plain", isolates=2) as running:
        yield running


@pytest.fixture(scope="session")
def project(stack_root: Path) -> Iterator[Project]:
    """Give a whole project whose pair the tests of the chat function move through all stages."""
    env = {"CROSSFADE_SOFT_AGE_MS": "100", "CROSSFADE_BROADCAST": "on"}
    with LocalStack(stack_root / "chat-function", durable=False, env=env) as stack:
        running = Project(stack)
        # The tests' own requests on a busy machine would hold runs back for a minute.
        running.set_setting("throttle_min_requests", "1000000")
        yield running
        running.http.close()


@pytest.fixture(scope="session")
def sign_up(project: Project) -> Iterator[Callable[..., User]]:
    """Give a function that signs up users of the chat function."""
    clients: list[httpx.Client] = []

    def make(url: str | None = None) -> User:
        user = sign_up_user(project, url)
        clients.append(user.http)
        return user

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def alice(sign_up: Callable[..., User]) -> User:
    """Give a signed-in user."""
    return sign_up()


@pytest.fixture(scope="session")
def bob(sign_up: Callable[..., User]) -> User:
    """Give another signed-in user."""
    return sign_up()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """Give an HTTP client; supabase-py never closes one of its own."""
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def service(plain_stack: LocalStack, http: httpx.Client) -> Client:
    """Give supabase-py with the secret key of the small stack."""
    return _client(plain_stack.info, plain_stack.info.secret_key, http)


@pytest.fixture
def anonymous(plain_stack: LocalStack, http: httpx.Client) -> Client:
    """Give supabase-py with the publishable key of the small stack, nobody signed in."""
    return _client(plain_stack.info, plain_stack.info.publishable_key, http)


def _client(info: StackInfo, key: str, http: httpx.Client) -> Client:
    options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
    return create_client(info.api_url, key, options)


@pytest.fixture(scope="session")
def cli_program() -> Path:
    """Install the CLI's native binary once into build/, through Deno: no Node is needed."""
    system = {"linux": "linux", "darwin": "darwin"}[sys.platform]
    machine = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    package = f"@supabase/cli-{system}-{machine}"
    folder = Path(__file__).parents[2] / "build" / f"supabase-cli-{CLI_VERSION}"
    program = folder / "node_modules" / package / "bin" / "supabase"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {"private": True, "dependencies": {package: CLI_VERSION}}
        (folder / "package.json").write_text(json.dumps(manifest))
        deno = Path(sys.executable).with_name("deno")
        subprocess.run([deno, "install", "--quiet"], cwd=folder, check=True, timeout=240)
    return program
