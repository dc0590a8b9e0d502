"""A plan on assumed or recorded traffic: how long it takes, how likely a false alarm is."""

import math
from typing import Annotated

import typer

from crossfade.cli.names import find_pair
from crossfade.cli.options import AsJson
from crossfade.cli.output import emit, say, seconds, table
from crossfade.cli.rollout_plan import PlanFile, read_plan
from crossfade.cli.session import gateway
from crossfade.core.errors import CrossfadeError, InvalidValueError
from crossfade.health.thresholds import Thresholds, read_thresholds
from crossfade.ports import Gateway
from crossfade.rollouts.simulation import Forecast, SimulatedTraffic, StepForecast, forecast

WIDTH = 48
RECORDED_MINUTES = 7 * 24 * 60


def simulate(
    context: typer.Context,
    file: PlanFile = None,
    pair: Annotated[
        str | None,
        typer.Option(help="Take traffic and errors as this pair had them in the last week."),
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0, help="Requests of all users together.")
    ] = None,
    error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of V2 requests that fail, 0 to 1.")
    ] = 0.01,
    runs: Annotated[int, typer.Option(min=1, max=10_000, help="Runs of each step.")] = 20,
    hours: Annotated[float, typer.Option(min=1, max=168, help="Simulated hours of a run.")] = 6,
    seed: Annotated[int, typer.Option(help="Another one is another chance.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Say how long a plan will take, how likely a false alarm is and how fast a failure is seen.

    Uses the project's own rules and numbers on fake time; changes nothing. Runs longer steps for
    some hours and scales, so the chance of a false alarm comes with an upper bound: more --runs
    make it tighter.

    Example: crossfade rollout simulate my_plan.toml --requests-per-minute 60 --error-rate 0.02
    """
    plan, opened = read_plan(file), gateway(context)
    limits = read_thresholds(opened.read_flags().settings)
    traffic = _traffic(opened, pair, requests_per_minute, error_rate)
    found = forecast(
        plan,
        traffic,
        limits,
        runs=runs,
        hours=hours,
        seed=seed,
        progress=lambda name: say(f"simulating {name}"),
    )
    emit(found, as_json=as_json, render=lambda: _text(found, traffic, limits))


def _traffic(
    opened: Gateway, pair: str | None, per_minute: float | None, error_rate: float
) -> SimulatedTraffic:
    if (pair is None) == (per_minute is None):
        raise InvalidValueError("Give --requests-per-minute or --pair, one of them")
    if pair is None:
        return SimulatedTraffic((per_minute or 0.0,), v2_error_rate=error_rate)
    find_pair(opened, pair)
    series = opened.overview(minutes=RECORDED_MINUTES, series=pair).series
    if series is None:
        raise CrossfadeError(f"No traffic of {pair} is recorded yet")
    points = [0.0] * series.points
    for backend in series.backends.values():
        for place, count in enumerate(backend.requests):
            points[place] += count
    if not any(points):
        raise CrossfadeError(
            f"No request of {pair} is recorded yet", hint="Use --requests-per-minute"
        )
    return SimulatedTraffic(_by_hour(points, series.width_s), v2_error_rate=error_rate)


def _by_hour(points: list[float], width_s: int) -> tuple[float, ...]:
    """Requests a minute, hour by hour, from the first point that saw any."""
    first = next(place for place, count in enumerate(points) if count)
    rates = [count * 60 / width_s for count in points[first:]]
    per_hour = max(1, round(3600 / width_s))
    chunks = [rates[place : place + per_hour] for place in range(0, len(rates), per_hour)]
    return tuple(sum(chunk) / len(chunk) for chunk in chunks)


def _text(found: Forecast, traffic: SimulatedTraffic, limits: Thresholds) -> str:
    total = found.expected_s
    lines = [
        f"{found.plan} at {traffic.mean:.4g} requests/min, {traffic.v2_error_rate:.2%} V2 errors:"
        f" {_duration(total)} when nothing holds it",
        "",
        *(_bar(step, found.steps, total) for step in found.steps),
        "",
        table(
            ("STEP", "V2/MIN", "TAKES", "FALSE ALARM", "AT MOST", "WARNED", "OUTAGE SEEN IN"),
            (
                (
                    step.name,
                    step.v2_per_minute,
                    _duration(step.expected_s),
                    f"{step.false_alarm:.1%}" if step.v2_per_minute else None,
                    f"{step.false_alarm_upper:.1%}" if step.v2_per_minute else None,
                    f"{step.warned:.1%}" if step.v2_per_minute else None,
                    None if step.detection_s is None else _duration(step.detection_s),
                )
                for step in found.steps
            ),
        ),
        "",
        f"A healthy plan is rolled back with a chance of {found.false_alarm:.1%}, at most"
        f" {found.false_alarm_upper:.1%} (95 %; {found.runs} runs a step of up to"
        f" {found.hours:g} h, evaluated every {limits.monitor_interval_s:g} s)",
    ]
    return "\n".join(lines)


def _duration(value: float) -> str:
    return "never" if math.isinf(value) else seconds(value)


def _bar(step: StepForecast, steps: tuple[StepForecast, ...], total: float) -> str:
    """One step on a common time line: where it lies, and how many users V2 serves in it."""
    before = 0.0
    for other in steps:
        if other is step:
            break
        before += other.expected_s
    if math.isinf(total) or total == 0:
        return f"{step.percentage:5.4g} % {'?' * 3} {step.name}"
    start, end = (round(WIDTH * moment / total) for moment in (before, before + step.expected_s))
    shades = "░▒▓█"
    shade = shades[min(3, int(step.percentage // 26))]
    bar = " " * start + shade * max(1, end - start)
    return f"{step.percentage:5.4g} % |{bar.ljust(WIDTH + 1)}| {step.name}"
