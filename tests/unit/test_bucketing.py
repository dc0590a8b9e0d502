"""Buckets and percentages, with generated input."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.errors import InvalidValueError
from crossfade.flags.bucketing import BUCKETS, bucket, parse_percentage, threshold

IDS = st.text(st.characters(exclude_characters="\0"), max_size=60)
PERCENTAGES = st.integers(0, 100_000).map(lambda number: Decimal(number) / 1000)


@given(IDS, IDS)
def test_every_id_has_a_bucket_and_always_the_same(key: str, unit: str) -> None:
    assert 0 <= bucket(key, unit) < BUCKETS
    assert bucket(key, unit) == bucket(key, unit)


@given(IDS, IDS, PERCENTAGES, PERCENTAGES)
def test_raising_a_percentage_never_drops_a_unit(
    key: str, unit: str, one: Decimal, other: Decimal
) -> None:
    low, high = sorted((one, other))
    inside_low = bucket(key, unit) < threshold(low)
    assert not inside_low or bucket(key, unit) < threshold(high)


@pytest.mark.parametrize("percentage", ["0.1", "1.5", "25", "75"])
def test_the_share_of_units_is_the_percentage(percentage: str) -> None:
    limit = threshold(Decimal(percentage))
    inside = sum(bucket("share", f"user-{number}") < limit for number in range(40_000))
    expected = float(percentage) / 100
    sigma = (expected * (1 - expected) / 40_000) ** 0.5
    assert abs(inside / 40_000 - expected) < 4 * sigma


def test_a_lone_surrogate_counts_as_the_replacement_character() -> None:
    assert bucket("k", "\ud800") == bucket("k", "\ufffd")


def test_nul_is_refused() -> None:
    with pytest.raises(InvalidValueError):
        bucket("k", "a\0b")


@given(PERCENTAGES)
def test_every_percentage_with_three_decimals_is_read_exactly(value: Decimal) -> None:
    assert parse_percentage(str(value)) == value
    assert parse_percentage(float(value)) == value
    assert threshold(parse_percentage(value)) == value * 1000


@pytest.mark.parametrize(
    "value",
    ["101", "-1", "33.3333", "abc", "", "nan", "inf", "1_0", "0.0001", "5 %", "1e1", 100.001],
)
def test_anything_else_is_refused_with_its_value(value: str | float) -> None:
    with pytest.raises(InvalidValueError) as error:
        parse_percentage(value)
    assert f'"{value}"' in error.value.line()
    assert "three decimals" in error.value.line()


@pytest.mark.parametrize("value", ["0", "100", "33.333", " 5 ", "5.000", ".5", 25])
def test_what_looks_odd_but_is_right(value: str | int) -> None:
    assert 0 <= parse_percentage(value) <= 100
