"""Prometheus text of an overview."""

from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.test_signals import backend, overview, pair

from crossfade.core.errors import UnreachableError
from crossfade.flags.model import KillSwitch
from crossfade.testing import NOW, FakeGateway
from crossfade.views.metrics import render
from crossfade.views.metrics_server import Scraper
from crossfade.views.overview import BackendTraffic, RunProgress, Total, Traffic


def samples(text: str) -> dict[str, float]:
    """Values by name and sorted labels."""
    return {
        sample.name + "".join(f",{k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_unreachable_project_is_down_and_has_no_other_number() -> None:
    assert samples(render(None)) == {"crossfade_up": 0}


def test_the_numbers_are_those_of_the_overview() -> None:
    traffic = Traffic(backends={1: backend(200, 1), 2: backend(100, 7, 250)})
    run = RunProgress(
        7, "backfill", "notes", rows_total=100, rows_done=40, progress_at=NOW - timedelta(hours=25)
    )
    switch = KillSwitch("stop", engaged=True)
    found = samples(
        render(overview(pair(traffic=traffic, progress=(run,)), kill_switches=(switch,)))
    )
    assert found["crossfade_up"] == 1
    assert found["crossfade_error_ratio,backend=2,pair=notes"] == 0.07
    assert found["crossfade_window_requests,backend=1,pair=notes"] == 200
    assert found["crossfade_latency_p95_seconds,backend=2,pair=notes"] == 0.25
    assert found["crossfade_p95_ratio,pair=notes"] == 2.5
    assert found["crossfade_run_idle_seconds,kind=backfill,pair=notes"] == 25 * 3600
    assert found["crossfade_kill_switch_engaged,name=stop"] == 1
    assert found["crossfade_stage,pair=notes,stage=live"] == 1
    assert found["crossfade_stage,pair=notes,stage=off"] == 0
    assert found["crossfade_cohort_percentage,pair=notes"] == 25


def test_without_requests_there_is_no_rate_and_no_latency() -> None:
    found = samples(render(overview(pair(traffic=Traffic(backends={2: BackendTraffic()})))))
    assert found["crossfade_window_requests,backend=2,pair=notes"] == 0
    assert not [name for name in found if "error_ratio" in name or "latency" in name]


def test_counters_and_histogram_come_from_the_totals() -> None:
    totals = (
        Total("notes", 2, 1, "ok", 5, {0: 1, 4: 1, 5: 3}),
        Total("notes", 2, 2, "error", 2, {79: 2}),
        Total("notes", 2, 2, "client_error", 9, {3: 9}),
    )
    found = samples(render(replace(overview(pair()), totals=totals)))
    assert found["crossfade_requests_total,backend=2,outcome=ok,pair=notes,wire=1"] == 5
    bucket = "crossfade_request_duration_seconds_bucket,backend=2,le={},pair=notes"
    assert found[bucket.format("0.001")] == 1
    assert found[bucket.format("0.002")] == 2
    assert found[bucket.format("0.004")] == 5
    assert found[bucket.format("+Inf")] == 7


def test_a_scrape_reads_anew_and_never_shows_an_old_number() -> None:
    fake, now = FakeGateway(), [0.0]
    fake.shown = overview(pair())
    scraper = Scraper(fake, clock=lambda: now[0])
    assert samples(scraper.scrape())["crossfade_up"] == 1
    fake.fail("overview", UnreachableError("gone"))
    assert samples(scraper.scrape())["crossfade_up"] == 1  # within the same second
    now[0] = 1.0
    assert samples(scraper.scrape()) == {"crossfade_up": 0}
    now[0] = 2.0
    assert samples(scraper.scrape())["crossfade_up"] == 1


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [("/metrics", None, 200), ("/", None, 404), ("/metrics", "evil.example", 404)],
)
def test_metrics_are_served_to_loopback_names_only(
    path: str, host: str | None, status: int
) -> None:
    from threading import Thread

    from crossfade.views.metrics_server import make_server

    fake = FakeGateway()
    fake.shown = overview(pair())
    with make_server(fake, 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        headers = {"Host": host} if host else {}
        answer = httpx.get(f"http://127.0.0.1:{server.server_port}{path}", headers=headers)
        server.shutdown()
        thread.join()
    assert answer.status_code == status
    assert ("crossfade_up 1.0" in answer.text) is (status == 200)
