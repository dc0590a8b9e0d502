"""Pictures of the dashboard for the documents: ``python -m tests.dashboard.screenshots FOLDER``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.dashboard.browser import chromium
from tests.dashboard.world import HEALTHY, Line, fill, judge, record, serving
from tests.integration.cli_project import Project, running_project

PLAN = """{"name": "five-weeks", "steps": [
  {"name": "5 %", "stage": "live", "percentage": 5, "min_s": 60},
  {"name": "25 %", "stage": "live", "percentage": 25, "min_s": 3600},
  {"name": "75 %", "stage": "live", "percentage": 75, "min_s": 604800, "min_requests": 50},
  {"name": "100 %", "stage": "live", "percentage": 100, "approval": "manual"}]}"""


def arrange(project: Project) -> None:
    """Three pairs at different places, an hour of traffic, and a monitor that is content."""
    project.make_pair("chat_messages", stage="live", rows=2000)
    project.make_pair("orders", stage="shadow", rows=400)
    project.make_pair("agent_tools", stage="dualwrite", rows=1000)
    project.ok("backfill", "start", "agent_tools", "--yes")
    project.sql(
        "update crossfade.run_ranges a set rows_done = 620, rows_written = 620, progress_at = now()"
        " from crossfade.runs r where r.id = a.run and r.pair = 'agent_tools'"
    )
    project.sql(f"select crossfade.start_rollout('chat_messages', '{PLAN}', 'week by week')")
    for share in ("5", "25"):
        project.ok(
            *("cohort", "set", "chat_messages", "--percentage", share, "--reason", "plan", "--yes")
        )
    fill(project, "chat_messages")
    judge(project, "chat_messages", **HEALTHY)
    for flag, on in (("use_advanced_messages", 900), ("enable_caching", 210)):
        answers = (
            f'[{{"flag": "{flag}", "variant": "on", "reason": "SPLIT", "count": {on}}},'
            f' {{"flag": "{flag}", "variant": "off", "reason": "SPLIT", "count": 300}}]'
        )
        project.sql(f"select crossfade.record_exposures('{answers}')")


def break_v2(project: Project) -> None:
    """Backend 2 fails, and the monitor goes back by itself."""
    record(project, "chat_messages", {"outcome": "fallback", "latency_ms": 900, "count": 400})
    why = "R1: 47.1 % of 849 requests failed, held for 60 s"
    judge(
        project,
        "chat_messages",
        **HEALTHY | {"R1": ("FAIL", 0.471, 849, 0.10, "47.1 % of 849 requests failed")},
    )
    project.sql(f"select crossfade.rollback('COMPLETE', 'chat_messages', '{why}', true)")
    project.ok("kill", "engage", "disable_v2_messages", "--reason", "to be sure")


def show(browser: Browser, link: str, *, phone: bool = False) -> Page:
    """Open the page as a person would."""
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 720}
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="light",
        is_mobile=phone,
        locale="en-GB",
    )
    page = context.new_page()
    page.goto(link)
    expect(page.locator("article.pair").first).to_be_visible(timeout=20_000)
    expect(page.locator(".chart svg path").nth(9)).to_be_attached(timeout=20_000)
    page.wait_for_timeout(1500)
    return page


def main(folder: Path) -> None:
    """Make all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="crossfade-shots-", ignore_cleanup_errors=True) as data,
        chromium() as browser,
    ):
        Path(data).chmod(0o755)
        with running_project(Path(data) / "project") as project:
            arrange(project)
            line = Line(urlsplit(project.stack.info.api_url).port or 0)
            env = {**project.env, "SUPABASE_URL": f"http://127.0.0.1:{line.port}"}
            with serving(env) as served:
                page = show(browser, served.link)
                page.screenshot(path=folder / "healthy.png")
                page.locator(".charts-head").scroll_into_view_if_needed()
                page.evaluate("scrollTo(0, document.querySelector('.charts-head').offsetTop - 8)")
                page.screenshot(path=folder / "panels.png")
                page.evaluate("scrollTo(0, 0)")
                phone = show(browser, served.link, phone=True)
                phone.screenshot(path=folder / "phone.png")
                break_v2(project)
                expect(page.locator("h1")).to_contain_text("wrong", timeout=20_000)
                page.wait_for_timeout(2000)
                page.screenshot(path=folder / "rolled-back.png")
                line.pull()
                expect(page.locator("h1")).to_contain_text("unreachable", timeout=30_000)
                page.wait_for_timeout(12_000)
                page.screenshot(path=folder / "unreachable.png")
    for path in folder.glob("*.png"):
        # The page has few colours, and the repository keeps every picture for ever.
        Image.open(path).convert("RGB").quantize(
            200, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
