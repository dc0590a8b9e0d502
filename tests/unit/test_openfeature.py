"""The OpenFeature provider behind the real SDK: types, errors, events, threads."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import ProviderStatus
from tests.unit.builders import VECTORS

from crossfade.core.contract import Reason as OurReason
from crossfade.core.errors import UnreachableError
from crossfade.flags.model import Exposure, Flag, FlagState, KillSwitch
from crossfade.flags.openfeature import CrossfadeProvider, changed_flags

SUITE = json.loads((VECTORS / "openfeature.json").read_text("utf-8"))
FLAGS = (
    Flag("boolean-flag", enabled=True, default_value=True),
    Flag("split", enabled=True, percentage=Decimal(50), cohort_key="chat-v2"),
    Flag("targeted", enabled=True, allow_user_ids=("user-1", "42"), deny_agent_ids=("agent-7",)),
    Flag("disabled-flag", default_value=True),
    Flag("killed", enabled=True, default_value=True, killed_by=("stop",)),
    Flag("killable", enabled=True, default_value=True, killed_by=("other",)),
    Flag("child", enabled=True, default_value=True, prerequisites=("disabled-flag",)),
)
STOP = KillSwitch("stop", engaged=True)


def state_of(*flags: Flag, version: int = 1, switches: tuple[KillSwitch, ...] = ()) -> FlagState:
    return FlagState(version, {flag.name: flag for flag in flags}, switches)


@dataclass
class World:
    """A source that tests set, a clock that they move, and what the client heard."""

    state: FlagState = field(default_factory=lambda: state_of(*FLAGS, switches=(STOP,)))
    failing: bool = False
    now: float = 0.0
    reads: int = 0
    reported: list[Exposure] = field(default_factory=list)
    heard: list[tuple[str, list[str] | None]] = field(default_factory=list)
    told: threading.Condition = field(default_factory=threading.Condition)

    def read_flags(self) -> FlagState:
        self.reads += 1
        if self.failing:
            raise UnreachableError("Cannot reach the database")
        return self.state

    def record_exposures(self, exposures: Sequence[Exposure]) -> None:
        if self.failing:
            raise UnreachableError("Cannot reach the database")
        self.reported.extend(exposures)

    def events(self, *expected: str) -> list[str]:
        """Return the events heard, once there are as many as expected: the SDK tells by thread."""
        with self.told:
            self.told.wait_for(lambda: len(self.heard) >= len(expected), timeout=10)
            return [name for name, _ in self.heard]

    def hear(self, event: ProviderEvent, details: EventDetails) -> None:
        with self.told:
            self.heard.append((event.name, details.flags_changed))
            self.told.notify_all()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def start(world: World) -> Iterator[Callable[[], tuple[OpenFeatureClient, CrossfadeProvider]]]:
    """Set the provider; its thread never wakes in a test, which refreshes by itself."""

    def begin() -> tuple[OpenFeatureClient, CrossfadeProvider]:
        provider = CrossfadeProvider(world, soft_age_s=3600, clock=lambda: world.now)
        if world.failing:
            with pytest.raises(ProviderNotReadyError):
                api.set_provider_and_wait(provider, "test")
        else:
            api.set_provider_and_wait(provider, "test")
        client = api.get_client("test")
        # Afterwards: a handler hears at once of the status that there is already.
        for event in ProviderEvent:
            client.add_handler(event, listener(world, event))
        return client, provider

    yield begin
    api.clear_providers()
    api.clear_hooks()


def listener(world: World, event: ProviderEvent) -> Callable[[EventDetails], None]:
    return lambda details: world.hear(event, details)


Start = Callable[[], tuple[OpenFeatureClient, CrossfadeProvider]]


def short(details: FlagEvaluationDetails[bool]) -> tuple[bool, str | None, Any]:
    return details.value, details.variant, details.reason


def user(key: str | None = None, **attributes: Any) -> EvaluationContext:
    return EvaluationContext(key, attributes)


@pytest.mark.parametrize("case", SUITE["cases"], ids=lambda case: case["name"])
def test_the_providers_suite(start: Start, world: World, case: Any) -> None:
    rows = [{"enabled": True, **row} for row in SUITE["flags"]]
    world.state = state_of(*(Flag(**row) for row in rows))
    given, expect = case["input"], case["expect"]
    client, _ = start()
    ask = getattr(client, f"get_{given['type']}_details")
    details = ask(given["flag"], given["default"], user(given.get("targeting_key")))
    told = {"value": details.value, "variant": details.variant, "reason": details.reason}
    assert {**told, "error": details.error_code} == {"variant": None, "error": None, **expect}
    assert bool(details.error_message) is ("error" in expect)


def test_a_value_is_resolved_and_not_the_default(start: Start) -> None:
    client, _ = start()
    assert client.get_boolean_value("boolean-flag", False) is True


def test_details_carry_variant_reason_and_flat_metadata(start: Start) -> None:
    client, _ = start()
    details = client.get_boolean_details("split", False, user("user-2"))
    assert short(details) == (True, "on", Reason.SPLIT)
    expected = {"rule": "percentage", "bucket": 5626, "threshold": 50000, "flags_version": 1}
    assert dict(details.flag_metadata) == expected


@pytest.mark.parametrize(
    ("context", "value", "reason"),
    [
        (user("user-1"), True, Reason.TARGETING_MATCH),
        (user("x", user_id="user-1"), True, Reason.TARGETING_MATCH),
        (user("x", user_id=42), True, Reason.TARGETING_MATCH),
        (user("user-1", agent_id="agent-7"), False, Reason.TARGETING_MATCH),
        (user("user-9"), False, Reason.DEFAULT),
        (user(), False, Reason.DEFAULT),
        (None, False, Reason.DEFAULT),
    ],
)
def test_the_context_decides(
    start: Start, context: EvaluationContext | None, value: bool, reason: Reason
) -> None:
    client, _ = start()
    details = client.get_boolean_details("targeted", not value, context)
    assert (details.value, details.reason) == (value, reason)


@pytest.mark.parametrize("name", ["disabled-flag", "killed", "child"])
def test_what_is_stopped_is_off_with_reason_disabled(start: Start, name: str) -> None:
    client, _ = start()
    assert short(client.get_boolean_details(name, True)) == (False, "off", Reason.DISABLED)


def test_the_kill_switch_is_named(start: Start) -> None:
    client, _ = start()
    assert client.get_boolean_details("killed", True).flag_metadata["kill_switch"] == "stop"


@pytest.mark.parametrize("fallback", [True, False])
def test_a_missing_flag_gives_the_default(start: Start, fallback: bool) -> None:
    client, _ = start()
    details = client.get_boolean_details("missing", fallback)
    assert (details.value, details.error_code) == (fallback, ErrorCode.FLAG_NOT_FOUND)
    assert details.reason == Reason.ERROR


def test_another_type_gives_the_default_and_type_mismatch(start: Start) -> None:
    client, _ = start()
    answers: list[FlagEvaluationDetails[Any]] = [
        client.get_string_details("boolean-flag", "hi"),
        client.get_integer_details("boolean-flag", 10),
        client.get_float_details("boolean-flag", 0.5),
        client.get_object_details("boolean-flag", {"a": 1}),
    ]
    assert [answer.value for answer in answers] == ["hi", 10, 0.5, {"a": 1}]
    assert {answer.error_code for answer in answers} == {ErrorCode.TYPE_MISMATCH}
    missing = client.get_string_details("missing", "")
    assert missing.error_code == ErrorCode.FLAG_NOT_FOUND


@pytest.mark.parametrize("value", [1.5, True, ["a"], "a\0b"])
def test_an_id_of_another_type_is_an_invalid_context(start: Start, value: object) -> None:
    client, _ = start()
    details = client.get_boolean_details("boolean-flag", False, user("u", user_id=value))
    assert (details.value, details.error_code) == (False, ErrorCode.INVALID_CONTEXT)


def test_hooks_see_details_and_errors(start: Start) -> None:
    client, _ = start()
    seen: list[Any] = []

    class Seen(Hook):
        def after(
            self,
            hook_context: HookContext,  # noqa: ARG002
            details: FlagEvaluationDetails[Any],
            hints: HookHints,  # noqa: ARG002
        ) -> None:
            seen.append(details.variant)

        def error(
            self,
            hook_context: HookContext,  # noqa: ARG002
            exception: Exception,
            hints: HookHints,  # noqa: ARG002
        ) -> None:
            seen.append(type(exception).__name__)

    client.add_hooks([Seen()])
    client.get_boolean_value("boolean-flag", False)
    client.get_boolean_value("missing", False)
    assert seen == ["on", "FlagNotFoundError"]


def test_the_provider_is_named_and_ready_once(start: Start, world: World) -> None:
    client, provider = start()
    assert provider.get_metadata().name == "crossfade"
    assert client.get_provider_status() == ProviderStatus.READY
    assert world.events("PROVIDER_READY") == ["PROVIDER_READY"]


def test_without_the_database_it_is_in_error_and_recovers(start: Start, world: World) -> None:
    world.failing = True
    client, provider = start()
    assert world.events("PROVIDER_ERROR") == ["PROVIDER_ERROR"]
    assert client.get_provider_status() == ProviderStatus.ERROR
    details = client.get_boolean_details("boolean-flag", False)
    assert (details.value, details.error_code) == (False, ErrorCode.PROVIDER_NOT_READY)
    world.failing = False
    assert provider.refresh()
    assert client.get_boolean_value("boolean-flag", False) is True
    expected = ["PROVIDER_ERROR", "PROVIDER_READY"]
    assert world.events(*expected) == expected
    assert client.get_provider_status() == ProviderStatus.READY


def test_a_change_is_told_with_the_flags_it_touches(start: Start, world: World) -> None:
    _, provider = start()
    world.events("PROVIDER_READY")
    changed = (*(replace(f, enabled=True) for f in FLAGS),)
    world.state = state_of(*changed, version=2)
    provider.refresh()
    world.events("PROVIDER_READY", "PROVIDER_CONFIGURATION_CHANGED")
    assert world.heard[-1][1] == ["child", "disabled-flag", "killed"]
    world.state = replace(world.state, flags_version=3)
    provider.refresh()
    assert len(world.heard) == 2


def test_a_flag_that_is_new_or_gone_has_changed() -> None:
    one, two = state_of(FLAGS[0]), state_of(FLAGS[1])
    assert changed_flags(one, two) == ["boolean-flag", "split"]


def test_a_stale_copy_is_told_answers_stale_and_recovers(start: Start, world: World) -> None:
    client, provider = start()
    world.events("PROVIDER_READY")
    world.failing, world.now = True, 59.9
    assert not provider.refresh()
    assert short(client.get_boolean_details("killable", False)) == (True, "on", Reason.STATIC)
    world.now = 60.0
    provider.refresh()
    assert short(client.get_boolean_details("boolean-flag", False)) == (True, "on", Reason.STALE)
    assert short(client.get_boolean_details("killable", True)) == (False, "off", Reason.STALE)
    provider.refresh()
    assert client.get_provider_status() == ProviderStatus.STALE
    world.events("PROVIDER_READY", "PROVIDER_STALE")
    world.failing = False
    provider.refresh()
    assert short(client.get_boolean_details("killable", False)) == (True, "on", Reason.STATIC)
    expected = ["PROVIDER_READY", "PROVIDER_STALE", "PROVIDER_READY"]
    assert world.events(*expected) == expected


def test_it_does_not_go_back_in_time_until_the_copy_is_old(start: Start, world: World) -> None:
    world.state = replace(world.state, flags_version=5)
    client, provider = start()
    world.state = state_of(Flag("killed", enabled=True, default_value=True), version=3)
    assert not provider.refresh()
    assert client.get_boolean_value("killed", True) is False
    world.now = 60.0
    assert provider.refresh()
    assert client.get_boolean_value("killed", False) is True


def test_answers_are_added_up_and_reported_once(start: Start, world: World) -> None:
    client, provider = start()
    for key in ("user-2", "user-2", "user-1"):
        client.get_boolean_value("split", False, user(key))
    client.get_boolean_value("missing", False)
    client.get_string_value("split", "")
    world.failing = True
    assert not provider.report()
    world.failing = False
    client.get_boolean_value("killed", True)
    assert provider.report()
    assert provider.report()
    assert world.reported == [
        Exposure("split", "on", OurReason.SPLIT, 2),
        Exposure("split", "off", OurReason.SPLIT, 1),
        Exposure("killed", "off", OurReason.DISABLED, 1),
    ]


def test_shutdown_reports_the_rest(start: Start, world: World) -> None:
    client, provider = start()
    client.get_boolean_value("boolean-flag", False)
    provider.shutdown()
    assert [exposure.count for exposure in world.reported] == [1]


def test_the_thread_reads_until_shutdown(world: World) -> None:
    provider = CrossfadeProvider(world, soft_age_s=0.001)
    provider.attach(lambda *_: None)
    others = set(threading.enumerate())
    provider.initialize(EvaluationContext())
    (thread,) = set(threading.enumerate()) - others
    enough = threading.Event()
    read = world.read_flags

    def counted() -> FlagState:
        if world.reads > 3:
            enough.set()
        return read()

    world.read_flags = counted  # type: ignore[method-assign]
    assert enough.wait(10)
    provider.shutdown()
    thread.join(10)
    assert not thread.is_alive()


def test_many_threads_see_whole_states_only(world: World) -> None:
    """Two flags always change together; an evaluation sees both changes or neither."""
    provider = CrossfadeProvider(world, soft_age_s=3600)
    provider.attach(lambda *_: None)

    def state(version: int) -> FlagState:
        on = version % 2 == 0
        child = Flag("c", enabled=True, default_value=on, prerequisites=("p",))
        return state_of(Flag("p", enabled=True, default_value=on), child, version=version)

    world.state = state(0)
    provider.initialize(EvaluationContext())
    wrong: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            details = provider.resolve_boolean_details("c", False)
            metadata = details.flag_metadata
            version = metadata["flags_version"]
            rule = "default" if int(version) % 2 == 0 else "prerequisite"
            if metadata["rule"] != rule:
                wrong.append(metadata)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(1, 400):
        world.state = state(version)
        provider.refresh()
    done.set()
    for thread in threads:
        thread.join()
    provider.shutdown()
    assert wrong == []
