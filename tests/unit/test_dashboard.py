"""The dashboard without a browser: panels, charts, effects, the feed, sessions."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.builders import project
from tests.unit.test_signals import backend, overview, pair

from crossfade.core.contract import Outcome, Stage
from crossfade.core.errors import UnauthorizedError, UnreachableError
from crossfade.dashboard import charts
from crossfade.dashboard.actions import ACTIONS, Actions
from crossfade.dashboard.effects import cohort_effects, flag_effects, share_effect
from crossfade.dashboard.feed import Feed
from crossfade.dashboard.layout import CHARTS, LAYOUT, Box, as_html
from crossfade.dashboard.page import _PANELS
from crossfade.dashboard.panels import frame, headline, pairs, switches, tables
from crossfade.dashboard.panels.words import count, duration, millis, rate
from crossfade.dashboard.sessions import Sessions
from crossfade.dashboard.view import Selection, View, Viewer
from crossfade.flags.model import Cohort, KillSwitch
from crossfade.health.verdicts import Verdict
from crossfade.testing import NOW, FakeGateway
from crossfade.views.overview import BackendSeries, Happening, Series, Traffic

ADA = Viewer("ada", "admin")
ALL = (headline.render, pairs.render, pairs.facts, switches.render, tables.runs, tables.rules)
MORE = (tables.features, tables.differences, tables.timeline, frame.top, frame.charts_head)


def view(**changes: object) -> View:
    healthy = View("http://project", ADA, Selection("notes"), overview(pair()))
    return replace(healthy, **changes)  # type: ignore[arg-type]


# Words -------------------------------------------------------------------------------------------


def test_an_unknown_number_is_a_dash_and_never_a_zero() -> None:
    for written in (count(None), rate(None), millis(None), duration(None)):
        assert "0" not in written
        assert "unknown" in written
    assert count(0) == "0"
    assert rate(0) == "0\u202f%"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.004, "0.40"), (0.5, "50.0"), (1, "100"), (0.00001, "0.00"), (0.123456, "12.3")],
)
def test_rates_keep_the_digits_that_matter(value: float, text: str) -> None:
    assert rate(value) == f"{text}\u202f%"


@pytest.mark.parametrize("panel", [*ALL, *MORE], ids=lambda panel: panel.__name__)
def test_every_panel_escapes_what_comes_from_outside(panel: object) -> None:
    evil = "<script>alert('x')</script>"
    hostile = pair(
        problem=evil,
        latched_at=NOW,
        latch_reason=evil,
        v1_table=evil,
        verdicts=(Verdict("R1", Outcome.FAIL, evil, at=NOW),),
    )
    switch = KillSwitch(evil, True, description=evil, engaged_by=evil, reason=evil)
    happened = Happening(1, NOW, evil, evil, evil, evil, {evil: json.dumps([evil, evil])})
    seen = overview(hostile, kill_switches=(switch,), timeline=(happened,), throttle=evil)
    text = panel(view(overview=seen, url=evil, person=Viewer(evil, "admin")))  # type: ignore[operator]
    assert "<script" not in text


@pytest.mark.parametrize("panel", [*ALL, *MORE], ids=lambda panel: panel.__name__)
def test_every_panel_can_be_drawn_before_anything_was_read(panel: object) -> None:
    nothing = view(overview=None, choice=Selection())
    text = panel(nothing)  # type: ignore[operator]
    assert "All is well" not in text


def test_an_unreachable_project_is_never_well() -> None:
    assert "All is well" in headline.render(view())
    gone = view(error="nothing answers", age_s=31.0)
    assert "Project unreachable" in headline.render(gone)
    assert "31\u202fs ago" in headline.render(gone)
    assert "All is well" not in headline.render(gone)
    assert "unreachable" in headline.title(gone)
    late = view(age_s=11.0)
    assert "All is well" not in headline.render(late)
    assert "Nothing is known" in headline.render(view(overview=None, error="nothing answers"))


def test_a_viewer_gets_no_buttons_that_act() -> None:
    looks = view(person=Viewer("bob", "viewer"))
    for panel in (pairs.render, switches.render, tables.features, tables.differences):
        assert "data-hold" not in panel(looks)
        assert 'data-action="ask_' not in panel(looks)
    assert 'data-action="ask_rollback"' in pairs.render(view())


def names(box: Box) -> list[str]:
    return [name for part in box.inside for name in [part.name, *names(part)] if name]


def test_the_page_without_scripts_has_a_place_for_every_panel_and_shows_it_once() -> None:
    places = names(LAYOUT)
    assert len(places) == len(set(places))
    assert {*_PANELS, *CHARTS, "lost", "dialog", "notice", "beat"} == set(places)
    text = as_html(LAYOUT, {name: draw(view()) for name, draw in _PANELS.items()})
    for draw in _PANELS.values():
        assert text.count(draw(view())) == 1
    assert text.index("<h1>All is well</h1>") < text.index('data-pair="notes"')


def test_the_page_without_scripts_escapes_what_is_no_panel() -> None:
    evil: Any = "<script>alert('x')</script>"
    assert "<script" not in as_html(LAYOUT, {"top": evil})


# Charts ------------------------------------------------------------------------------------------


def series() -> Series:
    one = BackendSeries((10, 0, 5), (1, 0, 0), (0, 0, 0), (0, 0, 0), (9, None, 8), (20, None, 30))
    two = BackendSeries((4, 0, 2), (2, 0, 1), (1, 0, 0), (0, 0, 0), (9, None, 8), (40, None, 60))
    total = Traffic(backends={1: backend(p95_ms=25), 2: backend()})
    since = NOW - timedelta(minutes=3)
    return Series("notes", since, NOW, 60, 3, {1: one, 2: two}, total=total)


def points(options: charts.Options, name: str) -> list[float | None]:
    (line,) = [line for line in options["series"] if line["name"] == name]
    return [value for _, value in line["data"]]


def test_charts_hold_the_numbers_of_the_series_without_the_point_that_fills() -> None:
    share = charts.share(series())
    assert points(share, "served by V1") == [10, 0]
    assert points(share, "served by V2") == [3, 0]
    assert points(share, "V2 fell back to V1") == [1, 0]
    errors = charts.errors(series(), warn_rate=0.05, bad_rate=0.1)
    assert points(errors, "V2") == [50.0, None]
    limits = errors["series"][-1]["markLine"]["data"]
    assert [limit["yAxis"] for limit in limits] == [5, 10]
    latency = charts.latency(series(), bad_ms=10_000, ratio=2)
    assert points(latency, "V2 p95") == [40, None]
    assert [m["yAxis"] for m in latency["series"][-1]["markLine"]["data"]] == [50]
    assert latency["yAxis"]["max"] > 50


def test_charts_of_nothing_are_empty() -> None:
    for options in (
        charts.share(None),
        charts.errors(None, warn_rate=None, bad_rate=None),
        charts.latency(None, bad_ms=None, ratio=None),
    ):
        assert options["series"] == []


# Who is affected ---------------------------------------------------------------------------------


def test_a_percentage_says_whose_buckets_change() -> None:
    wider = share_effect(Decimal(5), Decimal(25), "win", "lose")
    assert wider.startswith("20 % of all users win, those in buckets 5000 to 24999")
    assert "4.5 % of all users lose, those in buckets 500 to 4999" in share_effect(
        Decimal(5), Decimal("0.5"), "win", "lose"
    )


def test_effects_of_a_cohort_and_a_flag() -> None:
    state = project().read_flags()
    name = next(iter(state.pairs))
    before = state.pairs[name].cohort
    assert before is not None
    after = replace(before, percentage=Decimal(100), denied_user_ids=("eve",))
    said = " | ".join(cohort_effects(state, name, after, "eve"))
    assert "move to V2" in said
    assert "never V2 from now on: eve" in said
    assert "User eve: V1 now, V1 then" in said
    flag = replace(state.flags["enable_caching"], enabled=False)
    said = " | ".join(flag_effects(state, flag, "ada"))
    assert "lose it" in said
    assert "User ada: on now, off then" in said
    assert cohort_effects(state, name, before) == []


# Reading -----------------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_feed_keeps_the_last_numbers_and_says_what_failed() -> None:
    fake, clock = FakeGateway(), Clock()
    feed = Feed(fake, clock=clock)
    feed.step()
    assert fake.calls == []  # nobody looks
    feed.look(("", 60))
    feed.step()
    reading, _ = feed.look(("", 60))
    assert reading.overview is not None
    fake.fail("overview", UnreachableError("Nothing answers"))
    clock.now += 7
    feed.step()
    failed, _ = feed.look(("", 60))
    assert (failed.overview, failed.error) == (reading.overview, "Nothing answers")
    assert feed.age_s(failed) == 7
    feed.step()
    assert feed.look(("", 60))[0].error == ""
    clock.now += 20
    calls = len(fake.calls)
    feed.step()
    assert len(fake.calls) == calls  # everybody has left


def test_the_feed_forgets_what_nobody_looks_at() -> None:
    fake, clock = FakeGateway(), Clock()
    feed = Feed(fake, clock=clock)
    for minutes in range(1, 200):
        feed.look(("notes", minutes))
    assert len(feed._wanted) == 16
    feed.step()
    clock.now += 16
    feed.step()
    feed.look(("notes", 60))
    feed.step()
    assert list(feed._wanted) == [("notes", 60)]


# Who may -----------------------------------------------------------------------------------------


def test_a_session_ends_by_time_and_by_signing_out() -> None:
    clock = Clock()
    sessions = Sessions(lifetime_s=60, clock=clock)
    token = sessions.make_token(ADA)
    assert sessions.sign_in_by_token("x") is None
    assert sessions.sign_in_by_token("ä" * 43) is None
    session = sessions.sign_in_by_token(token)
    assert session is not None
    assert sessions.find(session.id) is session
    clock.now += 60
    assert sessions.find(session.id) is None
    assert not sessions.is_open(session)
    again = sessions.sign_in_by_token(token)
    assert again is not None
    sessions.close(again)
    assert sessions.find(again.id) is None
    assert sessions.find(None) is None


def test_sessions_are_bounded() -> None:
    sessions = Sessions(lifetime_s=60, clock=Clock())
    opened = [sessions.open(ADA) for _ in range(300)]
    assert sum(sessions.find(session.id) is not None for session in opened) == 200


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_refused_to_a_viewer(action: str) -> None:
    fake = project()
    with pytest.raises(UnauthorizedError):
        Actions(fake).run(Viewer("bob", "viewer"), action, {"pair": "notes", "name": "x"})
    assert fake.calls == []


def test_a_stage_that_is_not_live_says_that_nobody_is_affected_yet() -> None:
    state = project().read_flags()
    name, routing = next(iter(state.pairs.items()))
    early = replace(state, pairs={name: replace(routing, stage=Stage.SHADOW)})
    said = cohort_effects(early, name, Cohort(Decimal(50), name))
    assert any("Nobody is affected yet" in line for line in said)
