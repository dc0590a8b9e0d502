"""The numbers of the health rules and of the rollout, read from ``crossfade.settings``.

No number is repeated here: an operator changes a row and the next evaluation uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

from pydantic import TypeAdapter, ValidationError

from crossfade.core.contract import Mode
from crossfade.core.errors import NotInstalledError


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Settings by their names; units are in the names."""

    rule_version: int
    rule_modes: Mapping[str, Mode]
    wilson_z: float
    health_window_s: float
    health_window_requests: int
    health_window_max_s: float
    shared_cause: str
    shared_cause_margin_rate: float
    r1_error_rate: float
    r1_min_requests: int
    r1_lower_bound_rate: float
    r1_hold_s: float
    r1s_min_requests: int
    r1s_lower_bound_rate: float
    r1k_streak: int
    r2_error_rate: float
    r2_min_requests: int
    r2_clear_rate: float
    r2_clear_s: float
    r2_page_s: float
    r3_success_rate: float
    r3_min_requests: int
    r3_strict: bool
    r4_p95_ms: float
    r4_warn_p95_ms: float
    r4_min_requests: int
    r4_hold_s: float
    r5_p95_ratio: float
    r5_p50_ratio: float
    r5_min_difference_ms: float
    r5_min_requests: int
    r5_hold_s: float
    r6_memory_rate: float
    r6_limit_bytes: int
    r6_min_reports: int
    r6_hold_s: float
    r7_stall_s: float
    r7_warn_s: float
    r8_mismatch_rate: float
    r9_p95_ratio: float
    r9_min_difference_ms: float
    r9_min_requests: int
    r10_no_data_s: float
    r11_failures: int
    r11_max_age_s: float
    r12_dead_s: float
    monitor_interval_s: float
    monitor_lease_s: float
    rollout_steps: tuple[float, ...]
    rollout_step_min_s: tuple[float, ...]
    rollout_step_min_requests: int
    rollout_manual_steps: tuple[float, ...]
    rollout_cooldown_s: float

    def mode(self, rule: str) -> Mode:
        """What may follow from ``rule``; ``enforce`` unless somebody chose otherwise."""
        # A person's stop is no opinion that could be muted.
        return Mode.ENFORCE if rule == "R13" else self.rule_modes.get(rule, Mode.ENFORCE)


@cache
def _reader() -> TypeAdapter[Thresholds]:
    # Making one costs milliseconds, and every look of every page reads thresholds many times.
    return TypeAdapter(Thresholds)


def has_thresholds(settings: Mapping[str, object]) -> bool:
    """Whether all are there: a database of an older release lacks the newer ones."""
    return all(field.name in settings for field in fields(Thresholds))


def read_thresholds(settings: Mapping[str, object]) -> Thresholds:
    """Build the thresholds from all settings.

    Raises:
        NotInstalledError: one is missing or of another type, named in the message.
    """
    names = {field.name for field in fields(Thresholds)}
    given = {name: value for name, value in settings.items() if name in names}
    try:
        return _reader().validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise NotInstalledError(
            f'Setting "{first["loc"][0]}" cannot be used: {first["msg"]}',
            hint="Correct it with set_setting, or apply the migrations again",
        ) from error
