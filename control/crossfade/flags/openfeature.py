"""An OpenFeature provider over the project's flags, for Python services.

Needs the extra ``crossfade[openfeature]``. Flags are read every few seconds and evaluated here, by
the rules of ``crossfade.flags``, so an evaluation costs no request::

    gateway = SupabaseGateway(Connection(url, secret_key))
    openfeature.api.set_provider(CrossfadeProvider(gateway))
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Never, Protocol

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    FlagNotFoundError,
    InvalidContextError,
    ProviderNotReadyError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from crossfade.core.contract import Reason as CrossfadeReason
from crossfade.core.errors import CrossfadeError
from crossfade.flags.evaluation import evaluate
from crossfade.flags.model import Context, Evaluation, Exposure, FlagState, KillSwitch

DEFAULT_SOFT_AGE_S: Final = 5.0
DEFAULT_HARD_AGE_S: Final = 60.0
_IDS: Final = ("user_id", "agent_id", "conversation_id")
_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where flags are read and answers reported; a gateway is one."""

    def read_flags(self) -> FlagState:
        """Return all control rows at one version; raises CrossfadeError."""

    def record_exposures(self, exposures: Sequence[Exposure]) -> None:
        """Count answers of flags; raises CrossfadeError."""


class CrossfadeProvider(AbstractProvider):
    """Answers OpenFeature clients. Safe to use from any number of threads.

    Flags are boolean: another type gives the caller's default with TYPE_MISMATCH. The unit is
    ``user_id`` of the context, else its targeting key; ``agent_id`` and ``conversation_id`` count
    too. Past the hard age answers have reason STALE, and what can be killed is off. Answers are
    added up and reported with each read.

    Args:
        source: where flags are read.
        soft_age_s: time between two reads.
        hard_age_s: age past which the copy is stale.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        source: Source,
        *,
        soft_age_s: float = DEFAULT_SOFT_AGE_S,
        hard_age_s: float = DEFAULT_HARD_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._source = source
        self._soft_age_s = soft_age_s
        self._hard_age_s = hard_age_s
        self._clock = clock
        # Replaced as a whole and never changed: readers need no lock.
        self._copy: tuple[FlagState, float] | None = None
        self._reading = threading.Lock()
        self._counting = threading.Lock()
        self._counts: Counter[tuple[str, str, CrossfadeReason]] = Counter()
        self._status = "starting"
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def get_metadata(self) -> Metadata:
        """Name the provider."""
        return Metadata(name="crossfade")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Read the flags once and go on reading them in the background.

        Raises:
            ProviderNotReadyError: the first read failed; PROVIDER_READY follows when one succeeds.
        """
        self.shutdown()
        self._stopped = threading.Event()
        self._status = "starting"
        self.refresh()
        # The SDK says PROVIDER_READY or PROVIDER_ERROR for us when this ends.
        self._status = "unread" if self._copy is None else "ready"
        stopped = self._stopped
        self._thread = threading.Thread(
            target=self._poll, args=(stopped,), name="crossfade-flags", daemon=True
        )
        self._thread.start()
        if self._copy is None:
            raise ProviderNotReadyError("Cannot read the flags from the database")

    def shutdown(self) -> None:
        """Stop reading and report the rest. The thread ends with its read, which is bounded."""
        self._stopped.set()
        self._thread = None
        self.report()

    def refresh(self) -> bool:
        """Read the flags now; return whether that succeeded. Emits what has changed.

        One read at a time; whoever calls meanwhile waits for a read of its own.
        """
        with self._reading:
            started = self._clock()
            try:
                state = self._source.read_flags()
            except CrossfadeError as error:
                _log.warning("cannot read flags: %s", error.line(), extra={"action": "flags.read"})
                self._notice_age()
                return False
            before = self._copy
            if before and state.flags_version < before[0].flags_version and not self._is_old():
                # A replica that lags: going back in time could release a kill switch.
                _log.warning("flags went back in time", extra={"action": "flags.read"})
                return False
            self._copy = (state, started)
            self._announce(before[0] if before else None, state)
            return True

    def report(self) -> bool:
        """Report the answers counted so far; return whether that succeeded. None is lost."""
        with self._counting:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return True
        try:
            self._source.record_exposures([Exposure(*key, n) for key, n in counts.items()])
        except CrossfadeError as error:
            _log.warning(
                "cannot report exposures: %s", error.line(), extra={"action": "flags.report"}
            )
            with self._counting:
                self._counts.update(counts)
            return False
        return True

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Evaluate a flag.

        Raises:
            FlagNotFoundError: no such flag.
            InvalidContextError: an id is neither text nor an integer.
            ProviderNotReadyError: nothing has been read yet.
        """
        context = read_context(evaluation_context)
        state = self._state(flag_key)
        answer = evaluate(state, flag_key, context, stale=self._is_old())
        with self._counting:
            self._counts[answer.flag, answer.variant, answer.reason] += 1
        return FlagResolutionDetails(
            value=answer.value,
            variant=answer.variant,
            reason=_reason(answer, state),
            flag_metadata=_metadata(answer),
        )

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[str]:
        """Refuse: flags are boolean."""
        self._mismatch(flag_key, "a string")

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[int]:
        """Refuse: flags are boolean."""
        self._mismatch(flag_key, "an integer")

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[float]:
        """Refuse: flags are boolean."""
        self._mismatch(flag_key, "a float")

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Refuse: flags are boolean."""
        self._mismatch(flag_key, "an object")

    def _mismatch(self, name: str, wanted: str) -> Never:
        self._state(name)
        raise TypeMismatchError(f'Flag "{name}" is a boolean and not {wanted}')

    def _state(self, name: str) -> FlagState:
        copy = self._copy
        if copy is None:
            raise ProviderNotReadyError("The flags have not been read yet")
        if name not in copy[0].flags:
            raise FlagNotFoundError(f'There is no flag "{name}"')
        return copy[0]

    def _is_old(self) -> bool:
        copy = self._copy
        return copy is not None and self._clock() - copy[1] >= self._hard_age_s

    def _poll(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._soft_age_s):
            if self.refresh():
                self.report()

    def _notice_age(self) -> None:
        if self._status == "ready" and self._is_old():
            self._status = "stale"
            message = f"The flags could not be read for {self._hard_age_s:g} s"
            self.emit_provider_stale(ProviderEventDetails(message=message))

    def _announce(self, before: FlagState | None, now: FlagState) -> None:
        status = self._status
        if status == "starting" or self._stopped.is_set():
            return
        self._status = "ready"
        if status != "ready":
            self.emit_provider_ready(ProviderEventDetails())
        changed = changed_flags(before, now) if before else []
        if changed:
            details = ProviderEventDetails(flags_changed=changed)
            self.emit_provider_configuration_changed(details)


def read_context(context: EvaluationContext | None) -> Context:
    """Read who is asked for.

    Raises:
        InvalidContextError: an id is neither text nor an integer, or holds a NUL character.
    """
    if context is None:
        return Context()
    ids = {name: _id(name, context.attributes.get(name)) for name in _IDS}
    key = _id("targeting_key", context.targeting_key)
    return Context(**{**ids, "user_id": ids["user_id"] or key})


def _id(name: str, value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and "\0" not in value):
        return value or None
    what = "text with a NUL character" if isinstance(value, str) else type(value).__name__
    raise InvalidContextError(f"Cannot evaluate: {name} is {what}; send text")


def _reason(answer: Evaluation, state: FlagState) -> Reason:
    """OpenFeature's word: STATIC where nothing targets, so that no context could change it."""
    flag = state.flags.get(answer.flag)
    if answer.reason is not CrossfadeReason.DEFAULT or flag is None:
        return Reason(answer.reason.value)
    lists = (flag.allow_user_ids, flag.allow_agent_ids, flag.deny_user_ids, flag.deny_agent_ids)
    targets = flag.percentage is not None or any(lists) or bool(flag.prerequisites)
    return Reason.DEFAULT if targets else Reason.STATIC


def _metadata(answer: Evaluation) -> dict[str, bool | int | float | str]:
    names = ("rule", "flags_version", "bucket", "threshold", "kill_switch", "prerequisite")
    values = {name: getattr(answer, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def changed_flags(before: FlagState, now: FlagState) -> list[str]:
    """Return the flags that may answer differently than before, sorted."""
    names = {*before.flags, *now.flags}
    return sorted(name for name in names if _print_of(before, name) != _print_of(now, name))


def _print_of(state: FlagState, name: str, *, depth: int = 0) -> object:
    flag = state.flags.get(name)
    if flag is None:
        return None

    def kills(switch: KillSwitch) -> bool:
        return switch.overrides_all or switch.name in flag.killed_by

    engaged = tuple(switch.name for switch in state.engaged() if kills(switch))
    others = flag.prerequisites if depth == 0 else ()
    parents = tuple(_print_of(state, other, depth=1) for other in others)
    return flag, engaged, parents
