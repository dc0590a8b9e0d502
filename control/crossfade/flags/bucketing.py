"""Buckets: a fixed number 0..99999 of (cohort key, unit).

murmur3_x86_32 over UTF-8, so that it equals Unleash at whole percentages and every language and
id gives the same number. The bucket never depends on the percentage: raising one adds units and
never removes any.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

import mmh3

from crossfade.core.errors import InvalidValueError

BUCKETS: Final = 100_000
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def bucket(cohort_key: str, unit: str) -> int:
    """Return the bucket, 0..99999, of ``unit`` within ``cohort_key``.

    Raises:
        InvalidValueError: when either holds a NUL character, which Postgres text cannot.
    """
    text = f"{cohort_key}:{unit}"
    if "\0" in text:
        raise InvalidValueError("Cannot take the bucket of an id with a NUL character")
    # TextEncoder in the edge function writes U+FFFD for a lone surrogate; so must we.
    data = _LONE_SURROGATE.sub("\ufffd", text).encode()
    value = mmh3.hash(data, 0, signed=False)
    return (value % 100) * 1000 + (value // 100) % 1000


def threshold(percentage: Decimal) -> int:
    """Return the first bucket that is out at ``percentage``."""
    return int(percentage * 1000)


def parse_percentage(value: str | int | float | Decimal) -> Decimal:
    """Read a percentage: 0 to 100 with at most three decimals.

    Raises:
        InvalidValueError: for anything else, naming the value. Nothing is ever rounded, because a
            rollout of 33.3333 that silently becomes 33.333 is not what was asked for.
    """
    hint = "Give a number from 0 to 100 with at most three decimals, for example 33.333"
    text = str(value).strip()
    try:
        # Decimal also takes "1_0" and "nan"; text comes from people, so only plain digits count.
        plain = not isinstance(value, str) or _DECIMAL.fullmatch(text)
        number = Decimal(text if plain else "")
    except InvalidOperation:
        raise InvalidValueError(f'Percentage "{value}" is not a number', hint=hint) from None
    if not number.is_finite() or not 0 <= number <= 100:
        raise InvalidValueError(f'Percentage "{value}" is not between 0 and 100', hint=hint)
    if number != number.quantize(Decimal("0.001")):
        raise InvalidValueError(f'Percentage "{value}" has more than three decimals', hint=hint)
    return number.quantize(Decimal("0.001")).normalize() + 0
