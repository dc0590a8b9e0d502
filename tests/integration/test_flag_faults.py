"""What clients get while the flags cannot be read well: never what may be an archive.

The Data API itself is well, so V1 could be read at any time; only where the pair stands is unknown.
"""

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from .chat_project import SERVED_BY, STAGES, Project, User, eventually
from .flags_proxy import FlagsProxy, flags_proxy

FAULTS = {"slow 0.6 s": 0.6, "slow 3 s": 3.0, "away": 0.0, "nonsense": 0.0}


@pytest.fixture(scope="module")
def proxy(project: Project) -> Iterator[FlagsProxy]:
    with flags_proxy(project.info.api_url) as running:
        yield running


Cold = Callable[[], User]


@pytest.fixture
def cold(project: Project, sign_up: Callable[..., User], proxy: FlagsProxy) -> Iterator[Cold]:
    """Give a function that starts a process which has read nothing yet, with a user of it."""
    started: list[str] = []

    def start() -> User:
        before = set(project.stack.parts())
        env = {"SUPABASE_URL": proxy.url, "CROSSFADE_BROADCAST": "off"}
        url = project.stack.spawn_isolate("chat", env=env)
        started.extend(set(project.stack.parts()) - before)
        return sign_up(url=f"{url.rstrip('/')}/chat")

    yield start
    proxy.mode = "well"
    for part in started:
        project.stack.kill(f"isolate:{part.rpartition('-')[2]}")


def serves_again(user: User) -> None:
    def serves() -> bool:
        return bool(user.ask("GET", f"/messages?chat_id={uuid.uuid4()}").is_success)

    eventually(serves, "the process serves as soon as it knows")


@pytest.mark.parametrize("stage", STAGES)
def test_a_cold_process_answers_from_what_it_knows(
    project: Project, proxy: FlagsProxy, alice: User, cold: Cold, stage: str
) -> None:
    project.at(stage)
    alice.catch_up(project)
    told = []
    for fault, delay_s in FAULTS.items():
        proxy.mode, proxy.delay_s = fault.partition(" ")[0], delay_s
        user = cold()
        started = time.perf_counter()
        listed = user.ask("GET", f"/messages?chat_id={uuid.uuid4()}")
        took_s = time.perf_counter() - started
        backend = listed.headers["x-crossfade-backend"]
        told.append(f"{fault}: {listed.status_code} from {backend} after {took_s:.2f} s")
        if delay_s > 0:
            assert (listed.status_code, backend) == (200, str(SERVED_BY[stage])), told
            continue
        assert (listed.status_code, listed.headers["retry-after"]) == (503, "1"), told
        proxy.mode = "well"
        serves_again(user)
    print(f"\nstage {stage}: " + "; ".join(told))


def test_a_process_that_hears_of_nothing_does_not_serve_the_archive(
    project: Project, proxy: FlagsProxy, alice: User, cold: Cold
) -> None:
    """It knows rampdown, from a replica that lags, while the pair is complete."""
    project.at("rampdown")
    user = cold()
    user.catch_up(project)
    proxy.mode = "lagging"
    project.at("complete")
    alice.catch_up(project)
    chat = user.new_chat()
    said = user.say(chat)
    assert (said.status_code, said.headers["x-crossfade-backend"]) == (201, "2")
    listed = user.ask("GET", f"/messages?chat_id={chat}")
    assert [m["id"] for m in listed.json()["messages"]] == [said.json()["id"]]


@pytest.mark.parametrize("mode", ["away", "nonsense", "lagging"])
def test_flags_are_read_at_most_once_a_second_whatever_the_traffic(
    project: Project, proxy: FlagsProxy, alice: User, cold: Cold, mode: str
) -> None:
    """Every write is refused by the fence, and says that there is a newer version."""
    project.at("live")
    user = cold()
    user.catch_up(project)
    chat = user.new_chat()
    proxy.mode = mode
    project.kill("disable_v2_messages")
    try:
        proxy.reads.clear()
        end = time.monotonic() + 4
        requests = 0
        while time.monotonic() < end:
            assert user.say(chat).status_code == 201
            requests += 1
        gaps = [b - a for a, b in zip(proxy.reads, proxy.reads[1:], strict=False)]
        print(f"\n{mode}: {requests} refused writes in 4 s, {len(proxy.reads)} reads of flags")
        assert requests > 20
        assert 1 <= len(proxy.reads) <= 5
        assert min(gaps, default=1.0) > 0.9
    finally:
        proxy.mode = "well"
        project.release("disable_v2_messages")
        alice.catch_up(project)
