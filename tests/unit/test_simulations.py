"""Healthy rollouts are left alone, broken ones are stopped in time: the real rules on fake time.

Few runs with fixed seeds, so that a wrong rule shows and chance does not. `make soak` makes enough
of them for a bound (tests/soak/simulations.py).
"""

import math
from random import Random

import pytest
from tests.unit.builders import thresholds

from crossfade.core.contract import Outcome
from crossfade.rollouts.plan import parse_plan
from crossfade.rollouts.simulation import (
    SimulatedTraffic,
    StepWorld,
    forecast,
    poisson,
    seconds_to_rollback,
)

LIMITS = thresholds()
SHARE = 0.25


def run(v2_per_minute: float, error_rate: float, seed: int, *, hours: float) -> float:
    """Seconds to the rollback of a step that gets so many V2 requests a minute."""
    traffic = SimulatedTraffic((v2_per_minute / SHARE,), v2_error_rate=error_rate)
    return seconds_to_rollback(StepWorld(SHARE, traffic, LIMITS, Random(seed)), hours=hours)


@pytest.mark.parametrize("per_minute", [1, 5, 20, 100])
def test_healthy_rollouts_are_not_rolled_back_in_six_hours(per_minute: float) -> None:
    assert [run(per_minute, 0.02, seed, hours=6) for seed in range(2)] == [math.inf] * 2


def test_a_broken_backend_at_twenty_a_minute_is_decided_within_a_minute() -> None:
    assert max(run(20, 1.0, seed, hours=1) for seed in range(200)) <= 60


@pytest.mark.parametrize(
    ("per_minute", "error_rate", "median_s", "slowest_s"),
    [
        (1, 1.0, 450, 800),
        (5, 1.0, 105, 200),
        (5, 0.5, 240, 450),
        (20, 0.3, 180, 300),
        (20, 0.2, 240, 600),
    ],
)
def test_broken_steps_are_stopped_in_time(
    per_minute: float, error_rate: float, median_s: float, slowest_s: float
) -> None:
    runs = sorted(run(per_minute, error_rate, seed, hours=1) for seed in range(21))
    assert runs[10] <= median_s
    assert runs[-2] <= slowest_s


def test_five_percent_errors_hold_and_seldom_roll_back() -> None:
    traffic = SimulatedTraffic((80,), v2_error_rate=0.06)
    world = StepWorld(SHARE, traffic, LIMITS, Random(1))
    held = [world.tick(second) is None and world.holds for second in range(15, 3601, 15)]
    assert sum(held) > len(held) / 2


# The forecast of a plan --------------------------------------------------------------------

PLAN = parse_plan(
    """
    name = "two"
    [[steps]]
    name = "mirror"
    stage = "dualwrite"
    min_time = "1h"
    [[steps]]
    name = "five"
    stage = "live"
    percentage = 5
    min_time = "30m"
    min_requests = 50
    """
)


def test_a_step_takes_as_long_as_it_needs_for_its_requests() -> None:
    (first, second) = forecast(PLAN, SimulatedTraffic((10,)), LIMITS, runs=1, hours=1).steps
    assert (first.expected_s, first.v2_per_minute) == (3600, 0)
    # 50 requests at half a request a minute.
    assert second.expected_s == pytest.approx(6000)
    assert second.detection_s is not None


def test_without_traffic_a_step_never_ends() -> None:
    assert forecast(PLAN, SimulatedTraffic((0,)), LIMITS, runs=1).expected_s == math.inf


def test_the_chance_of_a_false_alarm_has_a_bound_that_fewer_runs_make_wider() -> None:
    few, more = (forecast(PLAN, SimulatedTraffic((60,)), LIMITS, runs=n, hours=1) for n in (2, 6))
    assert few.false_alarm == more.false_alarm == 0
    assert 0 < more.false_alarm_upper < few.false_alarm_upper < 1


def test_a_rule_that_fires_on_everything_shows_in_the_forecast() -> None:
    nervous = thresholds(r1k_streak=1)
    found = forecast(PLAN, SimulatedTraffic((600,), v2_error_rate=0.05), nervous, runs=3, hours=1)
    assert found.false_alarm == 1


def test_recorded_traffic_repeats_hour_by_hour() -> None:
    traffic = SimulatedTraffic((0, 60))
    assert [traffic.at(hour * 3600) for hour in range(4)] == [0, 60, 0, 60]
    assert traffic.mean == 30


def test_the_simulated_window_is_that_of_the_database() -> None:
    world = StepWorld(1.0, SimulatedTraffic((1,)), LIMITS, Random(3))
    for second in range(15, 7201, 15):
        world.tick(second)
    # One request a minute: the window reaches back for fifty of them.
    v2 = world._sample(7200, 120).backend(2)
    assert 50 <= v2.requests <= 60
    assert v2.recent.requests < 20
    assert v2.whole.requests == world.requests


def test_a_healthy_simulation_passes_every_rule() -> None:
    world = StepWorld(SHARE, SimulatedTraffic((80,), v2_error_rate=0.0), LIMITS, Random(1))
    for second in range(15, 3601, 15):
        world.tick(second)
    assert {item.verdict for item in world._verdicts} == {Outcome.PASS}


@pytest.mark.parametrize("mean", [0.0, 0.5, 20.0, 80.0])
def test_arrivals_have_the_mean_and_spread_of_chance(mean: float) -> None:
    random = Random(5)
    counts = [poisson(random, mean) for _ in range(4000)]
    average = sum(counts) / len(counts)
    spread = sum((count - average) ** 2 for count in counts) / len(counts)
    assert average == pytest.approx(mean, rel=0.06, abs=0.05)
    assert spread == pytest.approx(mean, rel=0.12, abs=0.05)
