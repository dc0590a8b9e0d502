"""The demo's figures: seconds of traffic, percentiles, and the judgement at the end."""

import json
from pathlib import Path

from crossfade.demo.meter import RequestMeter, percentile
from crossfade.demo.proof import BrokenPromise, Proof
from crossfade.demo.report import ClientFigures, Report, StoryFigures, as_json
from crossfade.demo.timeline import Moment, draw, merge


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _report(**changes: object) -> Report:
    clients = ClientFigures(10, 5.0, 4, 0, 0, 0, 0, {}, [])
    values: dict[str, object] = {
        "measured": StoryFigures(history_rows=3),
        "clients": clients,
        "proof": Proof(3, 3, 3, 1),
        "duration_s": 1.0,
        **changes,
    }
    return Report(**values)  # type: ignore[arg-type]


def test_a_percentile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
    assert percentile([7.0], 0.5) == 7.0


def test_seconds_are_kept_by_backend_and_only_when_over() -> None:
    clock = Clock()
    meter = RequestMeter(clock)
    meter.request(wire=1, backend=1, latency_ms=10)
    meter.request(wire=2, backend=2, latency_ms=30)
    meter.request(wire=1, backend=None, latency_ms=99)
    assert meter.seconds() == []
    clock.now += 3
    meter.request(wire=1, backend=1, latency_ms=10)
    (second,) = meter.seconds()
    assert (second.at_s, second.by_backend) == (0, {0: 1, 1: 1, 2: 1})
    assert second.p95_ms == {0: 99, 1: 10, 2: 30}


def test_problems_are_counted_by_the_version_their_client_speaks() -> None:
    meter = RequestMeter(Clock())
    for _ in range(40):
        meter.problem(wire=1, kind="status", text="500")
    meter.problem(wire=2, kind="content", text="lost a block")
    assert (meter.errors_of(1), meter.errors_of(2)) == (40, 1)
    assert len(meter.samples) < 40


def test_a_demo_with_nothing_wrong_breaks_no_promise() -> None:
    assert _report().broken == []
    assert as_json(_report())["ok"] is True


def test_every_kind_of_finding_breaks_a_promise_and_says_what_it_means() -> None:
    for promise, name in (
        ("lost", "lost"),
        ("history", "history_changed"),
        ("duplicated", "duplicated"),
        ("mismatches", "mismatches"),
        ("fenced", "v2_writes_after_kill"),
    ):
        report = _report(proof=Proof(3, 3, 3, 1, (BrokenPromise(promise, "gone", 2, ()),)))
        assert [broken.name for broken in report.broken] == [name]
        assert report.broken[0].value == 2
        assert report.broken[0].meaning


def test_a_story_that_stopped_is_not_a_success_even_if_nothing_is_lost() -> None:
    report = _report(stopped_at="fault", stopped_because="no rollback")
    assert [broken.name for broken in report.broken] == ["completed"]
    assert report.broken[0].meaning == "no rollback"


def test_no_proof_is_no_success() -> None:
    assert [broken.name for broken in _report(proof=None).broken] == ["proved"]


def test_the_report_is_json() -> None:
    assert json.loads(json.dumps(as_json(_report())))["history_rows"] == 3


def test_the_picture_is_svg_with_the_events_as_text(tmp_path: Path) -> None:
    clock = Clock()
    meter = RequestMeter(clock)
    for backend in (1, 2, 1, 2):
        meter.request(wire=1, backend=backend, latency_ms=10 * backend)
        clock.now += 1
    path = tmp_path / "timeline.svg"
    draw(path, meter.seconds(), [Moment(1.0, "kill drill")])
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "kill drill" in text


def test_events_of_one_moment_share_a_label() -> None:
    events = [Moment(1.0, "live"), Moment(1.2, "5 %"), Moment(3.0, "25 %")]
    assert merge(events) == [Moment(1.0, "live, 5 %"), Moment(3.0, "25 %")]


def test_a_demo_without_a_request_still_has_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "timeline.svg"
    draw(path, [], [Moment(0.5, "stopped")])
    assert "stopped" in path.read_text(encoding="utf-8")
