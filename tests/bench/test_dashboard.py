"""The dashboard: the first screen over a month of minutes, and memory over an hour of updates."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from tests.dashboard.browser import chromium, find_chromium
from tests.dashboard.world import serving
from tests.integration.cli_project import Project, running_project

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")
DAYS = int(os.environ.get("DAYS", "30"))
UPDATES = int(os.environ.get("UPDATES", "3600"))
ROUNDS = int(os.environ.get("ROUNDS", "12"))
PAIRS = [f"pair_{number}" for number in range(5)]
SCREEN: ViewportSize = {"width": 1280, "height": 720}
MONTH = """
insert into crossfade.request_minutes
select p, date_trunc('minute', now()) - make_interval(mins => m), 1, b, w, '', 'ok', l,
  3 + (m + l) %% 7, now()
from unnest('{%s}'::text[]) p, generate_series(0, %s) m, generate_series(1, 2) b,
  generate_series(1, 2) w, generate_series(20, 27) l
"""
# The browser itself says when the pixels of an element are on the screen, if it is asked before.
# Asked for are a verdict and numbers: not "reading", and no dash of an unknown value.
ASK = """
window.painted = {};
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) painted[entry.identifier] ??= entry.renderTime;
}).observe({ type: "element", buffered: true });
const ask = (element, name, expected) => {
  if (expected.test(element?.textContent)) element.setAttribute("elementtiming", name);
};
new MutationObserver(() => {
  ask(document.querySelector("h1"), "headline", /well|wrong|attention/);
  for (const pair of document.querySelectorAll("article.pair")) {
    ask(pair.querySelector(".next"), `${pair.dataset.pair} next`, /Next: ./);
    for (const cell of pair.querySelectorAll("[data-value]"))
      ask(cell, `${pair.dataset.pair} ${cell.dataset.value}`, /^[0-9]|^all on V/);
  }
}).observe(document, { childList: true, subtree: true });
"""
# All of that, with the age it has: the project is read every 2 s, and 4 s is not fresh any more.
SHOWN = """(pairs) => {
  const asked = [...document.querySelectorAll("[elementtiming]")];
  return asked.length === 1 + 8 * pairs && asked.every((element) => element.checkVisibility())
    && /^Read (just now|[1-4] s ago)$/.test(document.querySelector(".fresh").textContent)
    && document.querySelector("#beat span").dataset.stale === "0";
}"""
PAINTED = """(pairs) => Object.keys(painted).length === 1 + 8 * pairs
  && Math.max(...Object.values(painted)) / 1000"""
LIVE = "() => Number(document.querySelector('#app #beat span')?.dataset.beat) >= 2"
DRAWN = "() => document.querySelectorAll('.chart svg').length === 3"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@dataclass(frozen=True)
class Opened:
    """Seconds from asking for the link, over the sign-in, until ...

    ``seen``: Playwright, which asks at every frame, finds the whole first screen.
    ``painted``: the last of its numbers was on the screen, by the browser's own clock.
    ``live``: the second update has come, so buttons work. ``drawn``: the charts are there.
    """

    seen: float
    painted: float
    live: float
    drawn: float


def opened(context: BrowserContext, link: str) -> tuple[Page, Opened]:
    """Open the page as a person does, who has nothing but the link."""
    page = context.new_page()
    page.add_init_script(ASK)
    began = time.perf_counter()
    page.goto(link, wait_until="commit")
    times = []
    for condition in (SHOWN, LIVE, DRAWN):
        page.wait_for_function(condition, arg=len(PAIRS), timeout=60_000)
        times.append(time.perf_counter() - began)
    painted = float(page.wait_for_function(PAINTED, arg=len(PAIRS)).json_value())
    return page, Opened(times[0], painted, times[1], times[2])


def visits(browser: Browser, link: str, *, warm: bool) -> list[Opened]:
    """Open it some times; ``warm`` keeps what a browser may keep of the visit before: scripts."""
    times = []
    context = browser.new_context(viewport=SCREEN)
    for _ in range(ROUNDS + warm):
        page, took = opened(context, link)
        times.append(took)
        page.close()
        if not warm:
            context.close()
            context = browser.new_context(viewport=SCREEN)
    context.close()
    return times[warm:]


def report(name: str, times: list[Opened]) -> None:
    """Print what the middle one took, and the best quarter."""
    parts = []
    for key in ("painted", "seen", "live", "drawn"):
        taken = sorted(1000 * getattr(took, key) for took in times)
        best = statistics.mean(taken[: max(1, len(taken) // 4)])
        parts.append(f"{key} {statistics.median(taken):.0f} (best quarter {best:.0f})")
    print(f"\n{name:22} {', '.join(parts)} ms", end="")


def fill_month(project: Project) -> None:
    for name in PAIRS:
        project.make_pair(name, rows=10)
    project.sql(MONTH % (",".join(PAIRS), DAYS * 1440 - 1))
    project.sql(
        "insert into crossfade.verdicts (pair, rule, verdict, mode) select p, 'R' || r, 'PASS',"
        f" 'enforce' from unnest('{{{','.join(PAIRS)}}}'::text[]) p, generate_series(1, 20000) i,"
        " generate_series(1, 13) r"
    )
    project.sql("analyze")


def look_at_a_month(browser: Browser, link: str) -> float:
    """Seconds until the charts of 30 days are there, summing up the hours included."""
    page, _ = opened(browser.new_context(viewport=SCREEN), link)
    began = time.perf_counter()
    page.get_by_role("button", name="30 days").click()
    # The button and "reading…" come together, so shares seen after it are those of the month.
    button = page.get_by_role("button", name="30 days")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-value=shares]")).to_contain_text("%", timeout=120_000)
    return time.perf_counter() - began


def test_the_first_screen_over_a_month_of_five_pairs(browser: Browser) -> None:
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-", ignore_cleanup_errors=True) as data:
        Path(data).chmod(0o755)
        with running_project(Path(data) / "p") as project:
            fill_month(project)
            (rows,) = project.sql("select count(*) from crossfade.request_minutes")[0]
            with serving(project.env) as served:
                # Nobody has looked yet: the project is asked while the person waits.
                context = browser.new_context(viewport=SCREEN)
                _, first = opened(context, served.link)
                context.close()
                cold = visits(browser, served.link, warm=False)
                warm = visits(browser, served.link, warm=True)
                load = os.getloadavg()[0]
                month = look_at_a_month(browser, served.link)
    print(f"\n{rows} minute buckets, load {load:.1f} on {os.cpu_count()} cores", end="")
    report("first visit of a server", [first])
    report("no scripts in cache", cold)
    report("scripts in cache", warm)
    print(f"\n30 days of charts with the roll-up {month:.1f} s")
    for times in (cold, warm):
        assert statistics.median(took.seen for took in times) < 1
        assert statistics.median(took.painted for took in times) < 1


def heap_bytes(page: Page) -> float:
    """What the page keeps: the least of some looks, because an update is always under way."""
    session = page.context.new_cdp_session(page)
    seen = []
    for _ in range(5):
        session.send("HeapProfiler.collectGarbage")
        metrics: Any = session.send("Runtime.getHeapUsage")
        seen.append(float(metrics["usedSize"]))
        page.wait_for_timeout(200)
    session.detach()
    return min(seen)


def test_memory_of_server_and_page_is_flat_over_an_hour_of_updates(browser: Browser) -> None:
    command = [sys.executable, "-m", "tests.dashboard.rehearsal", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        # Not opened(): what it asks the browser to note would be counted as the page's.
        page = browser.new_page(viewport=SCREEN)
        page.goto(process.stdout.readline().strip())
        server = psutil.Process(process.pid)
        seen: list[tuple[int, float, float]] = []
        # One update a second is what a page gets; here they come about as fast as it can draw them.
        # One that falls behind loads itself anew and counts from 1 again, which would hide a leak.
        page.evaluate("window.sameAsFirst = true")
        for part in range(1, 11):
            wanted = UPDATES * part // 10
            page.wait_for_function(
                "n => Number(document.querySelector('#beat span').dataset.beat) >= n",
                arg=wanted,
                timeout=1_200_000,
            )
            assert page.evaluate("window.sameAsFirst"), "the page has loaded itself anew"
            rss, heap = server.memory_info().rss / 2**20, heap_bytes(page) / 2**20
            seen.append((wanted, rss, heap))
            print(
                f"\n{wanted:6} updates: server {rss:.0f} MiB, page {heap:.1f} MiB",
                end="",
                flush=True,
            )
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    print()
    assert seen[-1][1] < 1.1 * seen[0][1]
    assert seen[-1][2] < 1.1 * seen[0][2] + 2
