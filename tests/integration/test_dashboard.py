"""The dashboard in a real Chromium, on a running project with traffic."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page, Route, WebSocket, expect

from tests.dashboard.browser import chromium, find_chromium
from tests.dashboard.world import HEALTHY, Line, Served, fill, judge, record, serving
from tests.integration.cli_project import Project, running_project

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="needs Chromium (Debian: chromium; or CROSSFADE_TEST_BROWSER)"
)
AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    # Every element that passes would come along, and takes most of the time.
    "resultTypes": ["violations"],
}
# axe keeps the page so busy that the framework may say "Connection lost" in a box of its own.
OURS = {"exclude": [["#popup"]]}
PASSWORD = "correct horse battery"
FAST = ("--interval", "0.3")
expect.set_options(timeout=40_000)


@pytest.fixture(scope="module")
def project(fresh_dir: Callable[[str], Path]) -> Iterator[Project]:
    """A pair that serves 25 % on V2, and one whose backfill is paused."""
    with running_project(fresh_dir("dashboard")) as found:
        found.make_pair("messages", stage="live", rows=300)
        found.make_pair("orders", stage="dualwrite", rows=50)
        found.ok("cohort", "set", "messages", "--percentage", "25", "--reason", "go", "--yes")
        found.ok("backfill", "start", "orders", "--yes")
        found.ok("backfill", "pause", "orders", "--yes")
        yield found


@pytest.fixture(scope="module")
def served(project: Project) -> Iterator[Served]:
    with serving(project.env, *FAST) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport={"width": 1280, "height": 720})
    found.set_default_timeout(40_000)
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext, served: Served, project: Project) -> Page:
    """The page, signed in; any error in it fails the test that caused it."""
    quiet(project)
    return signed_in(context, served)


def quiet(project: Project) -> None:
    """Everything as it should be."""
    for name in project.sql("select name from crossfade.kill_switches where engaged"):
        project.sql(f"select crossfade.release_kill_switch('{name[0]}', 'test')")
    fill(project, "messages")
    judge(project, "messages", **HEALTHY)


def signed_in(context: BrowserContext, served: Served) -> Page:
    found = context.new_page()
    found.goto(served.link)
    expect(found.locator("article.pair").first).to_be_visible()
    return found


def audit(project: Project, after: int) -> list[tuple[Any, ...]]:
    return project.sql(
        f"select action, object, reason from crossfade.audit where id > {after} and"
        " actor = 'tester' order by id"
    )


def last_audit(project: Project) -> int:
    found: int = project.sql("select coalesce(max(id), 0) from crossfade.audit")[0][0]
    return found


def press(page: Page, name: str) -> None:
    """Press and let go too soon."""
    page.locator(f"[data-hold][data-name={name}]").hover()
    page.mouse.down()
    page.mouse.up()


def hold(page: Page, name: str) -> None:
    """Hold until the switch is engaged, as somebody who sees what is under the pointer."""
    page.evaluate("addEventListener('pointerdown', e => { window.was = e.target; }, true)")
    for _ in range(5):
        page.locator(f"[data-hold][data-name={name}]").hover()
        page.mouse.down()
        # The line above may have come or gone between the two, and all below it moved.
        if page.evaluate("window.was.closest('[data-hold]')?.dataset.name") == name:
            break
        page.mouse.up()
    expect(page.locator(f"[data-switch={name}]")).to_have_class("engaged")
    page.mouse.up()


def submit(page: Page, **fields: str) -> None:
    """Fill the open dialog and press its button."""
    dialog = page.locator("dialog[open]")
    expect(dialog).to_be_visible()
    for name, value in fields.items():
        dialog.locator(f"[name={name}]").fill(value)
    dialog.locator("button[type=submit]").click()


def number(text: str) -> float:
    """A number as the page writes it."""
    digits = "".join(c for c in text if c.isdigit() or c == ".")
    return float(digits)


def plain(text: str) -> str:
    return text.replace("\u202f", " ").strip()


# What it shows -----------------------------------------------------------------------------------


def test_every_panel_shows_what_sql_says(page: Page, project: Project) -> None:
    record(project, "messages", {"outcome": "fallback", "count": 3}, {"count": 40})
    entries = [
        {"flag": "enable_caching", "variant": variant, "reason": "SPLIT", "count": count}
        for variant, count in (("on", 30), ("off", 10))
    ]
    project.sql(f"select crossfade.record_exposures('{json.dumps(entries)}')")
    project.unmirrored("messages_v2", "update public.messages_v2 set note = 'x' where id = 7")
    project.run("verify", "run", "messages")
    found = json.loads(project.run("status", "--json").stdout)
    overview = found["overview"]
    messages = next(pair for pair in overview["pairs"] if pair["name"] == "messages")
    card = page.locator("article[data-pair=messages]")

    expect(page.locator("h1")).to_contain_text("attention")  # the mismatch
    expect(card.locator("[data-value=percentage]")).to_have_text("25\u202f% on V2")
    expect(card.locator("[aria-current=step]")).to_have_text("live")
    for version in ("1", "2"):
        backend = messages["traffic"]["backends"][version]
        shown = card.locator(f"[data-value=requests-{version}]")
        expect(shown).to_have_text(f"{backend['requests']:,}".replace(",", "\u202f"))
        rate = number(card.locator(f"[data-value=errors-{version}]").inner_text())
        assert rate == pytest.approx(backend["error_rate"] * 100, abs=0.06)
        p95 = number(card.locator(f"[data-value=p95-{version}]").inner_text())
        assert p95 == pytest.approx(backend["p95_ms"], abs=0.6)
    (requests,) = project.sql(
        "select sum(requests) from crossfade.request_minutes where pair = 'messages' and"
        " backend_version = 2 and outcome in ('ok', 'error', 'fallback')"
        f" and minute >= '{messages['traffic']['since']}'"
    )[0]
    assert requests == messages["traffic"]["backends"]["2"]["requests"]
    expect(page.locator("[data-value=shares]")).to_contain_text("of requests went to V2")

    rules = page.locator("[data-panel=rules] tbody tr")
    assert rules.count() >= len(HEALTHY)
    for rule, (verdict, _, samples, _, message) in HEALTHY.items():
        row = rules.filter(has=page.get_by_role("rowheader", name=rule, exact=True))
        expect(row).to_contain_text(verdict)
        expect(row).to_contain_text(message)
        expect(row).to_contain_text(str(samples))

    runs = page.locator("[data-panel=runs] tbody tr")
    for pair in overview["pairs"]:
        for run in pair["progress"]:
            row = runs.filter(has_text=f"{run['kind']} {run['id']}")
            expect(row).to_contain_text(run["state"])
            expect(row).to_contain_text(f"{run['rows_done']} of {run['rows_total']}")

    caching = page.locator("[data-panel=features] tr").filter(has_text="enable_caching")
    assert [plain(c) for c in caching.locator("td").all_inner_texts()][1:4] == [
        "30",
        "10",
        "75.0 %",
    ]
    differs = page.locator("[data-panel=differences]")
    expect(differs).to_contain_text("mismatches: 1")
    expect(differs).to_contain_text("note")
    newest = overview["timeline"][0]
    first = page.locator("[data-panel=timeline] tbody tr").first
    expect(first).to_contain_text(newest["action"])
    expect(first).to_contain_text(newest["object"])
    assert page.locator("[data-switch]").count() == len(overview["kill_switches"])
    for chart in page.locator(".chart").all():
        assert chart.locator("svg path").count() > 5

    # Both rows behind the difference, and the repair that ends it.
    differs.get_by_role("button", name='{"id": 7}').click()
    expect(page.locator("dialog[open]")).to_contain_text("text 7")
    page.keyboard.press("Escape")
    project.ok("repair", "messages", "--yes")
    expect(differs).to_contain_text("mismatches: 0")
    expect(page.locator("h1")).to_have_text("All is well")
    assert page.title().startswith("✓")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_about(
    context: BrowserContext, served: Served, project: Project, scheme: Literal["light", "dark"]
) -> None:
    quiet(project)
    page = signed_in(context, served)
    page.emulate_media(color_scheme=scheme)
    hold(page, "disable_new_tools")
    expect(page.locator("[data-switch=disable_new_tools]")).to_have_class("engaged")
    for size in ((1280, 720), (390, 844)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        problems = Axe().run(page, OURS, AXE).response["violations"]
        assert [(p["id"], p["nodes"][0]["html"][:200]) for p in problems] == []
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{size}: the page is {wide} px wider than the screen"
    page.locator("[data-pair=messages][data-action=ask_rollback]").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    problems = Axe().run(page, OURS, AXE).response["violations"]
    assert [(p["id"], p["nodes"][0]["html"][:200]) for p in problems] == []


def test_another_pair_and_a_longer_window_can_be_looked_at(page: Page) -> None:
    heading = page.locator(".charts-head h2")
    expect(heading).to_have_text("messages")
    page.get_by_role("button", name="Charts orders").click()
    expect(heading).to_have_text("orders")
    expect(page.locator("[data-value=shares]")).to_contain_text("no requests")
    page.get_by_role("button", name="Charts messages").click()
    page.get_by_role("button", name="30 days").click()
    expect(page.get_by_role("button", name="30 days")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-value=shares]")).to_contain_text("of requests went to V2")


def test_nothing_comes_from_outside_and_no_key_reaches_the_browser(
    context: BrowserContext, served: Served, project: Project
) -> None:
    quiet(project)
    asked: list[str] = []
    seen: list[str] = []
    errors: list[str] = []
    sockets: list[WebSocket] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("response", lambda answer: seen.append(str(answer.headers)))

    def listen(socket: WebSocket) -> None:
        sockets.append(socket)
        for event in ("framereceived", "framesent"):
            socket.on(event, lambda frame: seen.append(str(frame)))

    page.on("websocket", listen)
    page.goto(served.link)
    expect(page.locator("article.pair").first).to_be_visible()
    expect(page.locator(".fresh")).to_contain_text("Read")
    page.wait_for_timeout(2500)
    seen.append(page.content())
    assert errors == []
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
        urlsplit(served.url).netloc
    }
    assert sockets
    text = "\n".join(seen)
    assert "All is well" in text
    assert project.stack.info.secret_key not in text
    assert "sb_secret" not in text
    assert "token=" not in page.url
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_the_first_answer_can_be_read_before_any_script_ran(
    browser: Browser, served: Served, project: Project
) -> None:
    quiet(project)
    (requests,) = project.sql(
        "select sum(requests) from crossfade.request_minutes where pair = 'messages' and"
        " backend_version = 1 and outcome in ('ok', 'error', 'fallback')"
    )[0]
    project.ok("kill", "engage", "disable_new_tools", "--reason", "to be seen")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(served.link)
    while "to be seen" not in page.locator(".headline").inner_text():
        page.reload()  # what was read just before
    card = page.locator("article[data-pair=messages]")
    assert 0 < number(card.locator("[data-value=requests-1]").inner_text()) <= requests
    assert card.locator("[aria-current=step]").inner_text() == "live"
    assert "Next:" in card.inner_text()
    assert "attention" in page.locator("h1").inner_text()
    # Only a script knows how old this is by now.
    assert page.locator(".fresh").inner_text() == ""
    context.close()


def without_scripts(context: BrowserContext, served: Served) -> tuple[Page, list[Route]]:
    """The page as it was sent; its script waits for ``continue_``, and its clock stands still."""
    held: list[Route] = []
    context.clock.install(time=0)
    context.clock.pause_at(1)
    page = context.new_page()
    page.route("**/static/nicegui.js", lambda route: held.append(route))
    while True:
        held.clear()
        page.goto(served.link, wait_until="commit")
        expect(page.locator("#early article.pair").first).to_be_visible()
        expect(page.locator("#early .fresh")).to_contain_text("Read")
        if page.locator("#early .engaged").count() == 0:
            return page, held
        # What was read just before: a switch that `quiet` has released since.


def test_a_kill_switch_held_before_the_scripts_are_there_is_engaged_when_they_are(
    context: BrowserContext, served: Served, project: Project
) -> None:
    quiet(project)
    before = last_audit(project)
    page, held = without_scripts(context, served)
    page.locator("[data-hold][data-name=disable_new_tools]").hover()
    page.mouse.down()
    context.clock.run_for(900)
    expect(page.locator("[data-name=disable_new_tools]")).to_have_text("Engaging…")
    page.mouse.up()
    context.clock.resume()
    held[0].continue_()
    expect(page.locator("[data-switch=disable_new_tools]")).to_have_class("engaged")
    expect(page.locator("#early")).to_have_count(0)
    assert len(audit(project, before)) == 1


def test_a_first_answer_that_never_reaches_its_server_says_so_and_forgets_what_was_pressed(
    context: BrowserContext, served: Served, project: Project
) -> None:
    quiet(project)
    before = last_audit(project)
    page, held = without_scripts(context, served)
    page.locator("[data-hold][data-name=disable_new_tools]").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("[data-name=disable_new_tools]")).to_have_text("Engaging…")
    context.clock.fast_forward(6000)
    expect(page.locator("#lost")).to_contain_text("has not reached its server")
    expect(page.locator("#lost")).to_be_visible()
    context.clock.resume()
    held[0].continue_()
    expect(page.locator("#early")).to_have_count(0)
    expect(page.locator("#lost")).to_be_hidden()
    assert audit(project, before) == []


# What people do ----------------------------------------------------------------------------------


def press_while_replaced(page: Page, project: Project) -> None:
    """Press "Roll back…" and wait until its panel has changed; the pointer is still down."""
    page.evaluate("addEventListener('pointerdown', e => { window.was = e.target; }, true)")
    page.locator("[data-pair=messages][data-action=ask_rollback]").hover()
    page.mouse.down()
    record(project, "messages", {"outcome": "error"})
    page.wait_for_function("!window.was.isConnected")


def test_a_click_on_a_button_that_is_replaced_meanwhile_counts(
    page: Page, project: Project
) -> None:
    press_while_replaced(page, project)
    page.mouse.up()
    expect(page.locator("dialog[open]")).to_contain_text("messages")


def test_a_click_that_ends_elsewhere_means_nothing(page: Page, project: Project) -> None:
    press_while_replaced(page, project)
    page.mouse.move(2, 2)
    page.mouse.up()
    page.locator("[data-pair=orders][data-action=ask_cohort]").click()
    expect(page.locator("dialog[open]")).to_contain_text("orders")


def test_buttons_work_as_soon_as_a_page_that_was_busy_has_heard_its_server(page: Page) -> None:
    page.evaluate("() => { for (const end = Date.now() + 6000; Date.now() < end;); }")
    page.locator("[data-pair=messages][data-action=ask_rollback]").click()
    expect(page.locator("dialog[open]")).to_be_visible()


def test_a_kill_is_one_held_press_and_a_release_needs_a_reason(
    page: Page, project: Project
) -> None:
    before = last_audit(project)
    row = page.locator("[data-switch=disable_v2_messages]")
    press(page, "disable_v2_messages")
    page.wait_for_timeout(1000)
    assert audit(project, before) == []
    hold(page, "disable_v2_messages")
    expect(row).to_have_class("engaged")
    expect(page.locator("h1")).to_contain_text("1 thing is wrong")
    expect(page.locator("#notice")).to_contain_text("disable_v2_messages engaged")
    assert project.sql(
        "select engaged from crossfade.kill_switches where name = 'disable_v2_messages'"
    ) == [(True,)]

    page.get_by_role("button", name="Release disable_v2_messages").click()
    submit(page, reason="<script>document.title = 'hacked'</script>")
    expect(row).to_have_class("released")
    reason = "<script>document.title = 'hacked'</script>"
    assert audit(project, before) == [
        ("kill_switch.update", "disable_v2_messages", "held on the dashboard"),
        ("kill_switch.update", "disable_v2_messages", reason),
    ]
    expect(page.locator("[data-panel=timeline]")).to_contain_text(reason)
    assert "hacked" not in page.title()


def test_a_kill_by_keyboard_is_two_presses(page: Page, project: Project) -> None:
    page.locator("[data-hold][data-name=disable_new_tools]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-name=disable_new_tools]")).to_have_text("Press again to engage")
    assert not project.sql("select 1 from crossfade.kill_switches where engaged")
    page.keyboard.press("Enter")
    expect(page.locator("[data-switch=disable_new_tools]")).to_have_class("engaged")


def test_a_rollback_shows_its_plan_and_carries_out_that_plan_only(
    page: Page, project: Project
) -> None:
    before = last_audit(project)
    ask = page.locator("[data-pair=messages][data-action=ask_rollback]")
    ask.click()
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text('set stage of messages: stage "live" → "shadow"')
    project.ok("cohort", "set", "messages", "--percentage", "30", "--reason", "x", "--yes")
    submit(page, reason="slow")
    expect(page.locator("#notice")).to_contain_text("look at the plan again")
    assert project.data("pair", "show", "messages")["stage"] == "live"
    expect(dialog).to_contain_text("percentage 30 → 0")
    submit(page, reason="slow")
    expect(page.locator("#notice")).to_contain_text("COMPLETE rollback of messages is done")
    expect(page.locator("article[data-pair=messages] [aria-current=step]")).to_have_text("shadow")
    expect(page.locator("h1")).to_contain_text("attention")
    assert ("rollback.complete", "messages", "slow") in audit(project, before)
    project.ok("stage", "set", "messages", "live", "--reason", "again", "--yes")
    project.ok("cohort", "set", "messages", "--percentage", "25", "--reason", "again", "--yes")
    project.sql("delete from crossfade.rollbacks")


def test_cohort_and_flag_changes_say_who_is_affected_first(page: Page, project: Project) -> None:
    before = last_audit(project)
    page.locator("[data-pair=messages][data-action=ask_cohort]").click()
    submit(page, percentage="26.5", allow="ada\ngrace", who="ada")
    dialog = page.locator("dialog[open]")
    expect(dialog).to_contain_text("1.5 % of all users move to V2, those in buckets 25000 to 26499")
    expect(dialog).to_contain_text("User ada: V")
    expect(dialog).to_contain_text("V2 then")
    submit(page, reason="wider")
    expect(page.locator("#notice")).to_contain_text("messages: 26.5 % on V2")
    cohort = project.data("cohort", "show", "messages")
    assert (cohort["percentage"], cohort["enabled_user_ids"]) == (26.5, ["ada", "grace"])

    page.get_by_role("button", name="Change enable_caching").click()
    page.locator("dialog[open] [name=enabled]").check()
    submit(page, percentage="10")
    expect(dialog).to_contain_text("10 % of all users get it")
    submit(page, reason="try")
    expect(page.locator("#notice")).to_contain_text("enable_caching changed")
    flag = project.data("flags", "show", "enable_caching")
    assert (flag["enabled"], flag["percentage"]) == (True, 10)
    done = [(action, name) for action, name, _ in audit(project, before)]
    assert done.count(("cohort.update", "messages")) == 1
    assert done.count(("flag.update", "enable_caching")) == 1

    # A value that is refused says so, and nothing changes.
    page.get_by_role("button", name="Change enable_caching").click()
    submit(page, percentage="101")
    expect(page.locator("#notice .refused")).to_contain_text("101")
    page.keyboard.press("Escape")


def test_a_rollout_is_held_resumed_approved_and_aborted(page: Page, project: Project) -> None:
    before = last_audit(project)
    plan = {
        "name": "two-steps",
        "steps": [
            {"name": "five", "stage": "live", "percentage": 5, "min_s": 3600},
            {"name": "all", "stage": "live", "percentage": 100, "approval": "manual"},
        ],
    }
    text = json.dumps(plan).replace("'", "''")
    project.sql(f"select crossfade.start_rollout('messages', '{text}', 'test')")
    card = page.locator("article[data-pair=messages]")
    expect(card).to_contain_text("plan two-steps")
    for action, word, state in (
        ("ask_hold", "held", "is held"),
        ("ask_resume", "running", "goes on"),
        ("ask_approve", "running", "may take step"),
        ("ask_abort", "aborted", "is aborted"),
    ):
        card.locator(f"[data-action={action}]").click()
        submit(page, reason=f"test {action}")
        expect(page.locator("#notice")).to_contain_text(state)
        (stored,) = project.sql("select state from crossfade.rollouts order by id desc limit 1")[0]
        assert stored == word
    actions = [action for action, *_ in audit(project, before)]
    for action in ("rollout.held", "rollout.running", "rollout.approve", "rollout.aborted"):
        assert action in actions
    assert project.data("pair", "show", "messages")["stage"] == "shadow"
    project.ok("stage", "set", "messages", "live", "--reason", "again", "--yes", "--anyway")
    project.ok("cohort", "set", "messages", "--percentage", "25", "--reason", "again", "--yes")
    project.sql("delete from crossfade.rollbacks")


# Who may, and what happens when something is gone ------------------------------------------------


def test_a_viewer_sees_everything_and_changes_nothing(
    context: BrowserContext, project: Project
) -> None:
    quiet(project)
    before = last_audit(project)
    with serving(project.env, *FAST, "--role", "viewer") as served:
        page = signed_in(context, served)
        expect(page.locator("h1")).to_have_text("All is well")
        assert page.locator("[data-hold]").count() == 0
        assert page.locator("[data-action^=ask_]").count() == 0
        for action, form in (
            ("engage", {"name": "emergency_rollback"}),
            ("release", {"name": "emergency_rollback", "reason": "x"}),
            ("set_cohort", {"pair": "messages", "percentage": "100", "reason": "x"}),
            ("show_rows", {"pair": "messages", "row": '{"id": 1}'}),
            ("__class__", {}),
        ):
            page.evaluate(
                "asked => emitEvent('crossfade', asked)", {"action": action, "form": form}
            )
            expect(page.locator("#notice .refused")).to_be_visible()
            page.wait_for_timeout(200)
        assert audit(project, before) == []
        assert page.locator("dialog").count() == 0


def test_the_door_is_shut_to_strangers(served: Served, project: Project) -> None:
    with httpx.Client(base_url=served.url) as stranger:
        page = stranger.get("/")
        assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
        assert "not good" in stranger.get("/sign-in", params={"token": "x" * 43}).text
        assert stranger.get("/_nicegui_ws/socket.io/").status_code == 401
        assert stranger.get("/", headers={"Host": "evil.example"}).status_code == 421
        sign_in = stranger.get("/sign-in")
        for header, value in (
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
        ):
            assert sign_in.headers[header] == value
        assert "frame-ancestors 'none'" in sign_in.headers["content-security-policy"]
    with httpx.Client(base_url=served.url, follow_redirects=True) as owner:
        assert owner.get(served.link).status_code == 200
        foreign = {"Origin": "http://evil.example"}
        assert owner.post("/sign-out", headers=foreign).status_code == 403
        handshake = {
            **foreign,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        socket = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        assert owner.get(socket, headers=handshake).status_code == 403
        assert owner.get("/").status_code == 200
        assert "has ended" in owner.post("/sign-out").text
        assert "Open the link" in owner.get("/").text
        # Scrapers bring no cookie, and the numbers are the same.
        assert 'crossfade_stage{pair="messages",stage="live"} 1.0' in owner.get("/metrics").text
    assert project.stack.info.secret_key not in sign_in.text


def make_operator(project: Project, role: str) -> str:
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    info = project.stack.info
    httpx.post(
        f"{info.api_url}/auth/v1/signup",
        headers={"apikey": info.publishable_key},
        json={"email": email, "password": PASSWORD},
    ).raise_for_status()
    if role:
        project.ok("operator", "add", email, "--role", role, "--reason", "test", "--yes")
    return email


def test_operators_sign_in_on_the_page_with_their_own_rights_and_name(
    context: BrowserContext, project: Project
) -> None:
    quiet(project)
    info = project.stack.info
    project.unmirrored("messages_v2", "update public.messages_v2 set note = 'y' where id = 9")
    project.run("verify", "run", "messages")
    people = {role: make_operator(project, role) for role in ("viewer", "operator", "")}
    with serving({**project.env, "SUPABASE_PUBLISHABLE_KEY": info.publishable_key}, *FAST) as here:
        page = context.new_page()

        def sign_in(role: str, password: str = PASSWORD) -> None:
            page.goto(f"{here.url}/sign-in")
            page.get_by_label("Email").fill(people[role])
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Sign in").click()

        sign_in("operator", "wrong")
        expect(page.get_by_role("alert")).to_contain_text("Cannot sign in")
        sign_in("")
        expect(page.get_by_role("alert")).to_contain_text("CF020")

        sign_in("viewer")
        differs = page.locator("[data-panel=differences]")
        expect(differs).to_contain_text("mismatches: 1, the newest 0 shown")
        expect(page.locator(".top")).to_contain_text(f"{people['viewer']} (viewer)")
        assert page.locator("[data-hold], [data-action^=ask_]").count() == 0
        page.get_by_role("button", name="Sign out").click()

        sign_in("operator")
        expect(differs).to_contain_text("the newest 1 shown")
        hold(page, "disable_memory_system")
        expect(page.locator("[data-switch=disable_memory_system]")).to_have_class("engaged")
        assert project.sql(
            "select actor from crossfade.audit where object = 'disable_memory_system'"
            " order by id desc limit 1"
        ) == [(people["operator"],)]
        # Taking the role away acts at once, in the database.
        project.ok("operator", "remove", people["operator"], "--reason", "left", "--yes")
        page.get_by_role("button", name="Release disable_memory_system").click()
        expect(page.locator("#notice .refused")).to_contain_text("CF020")
    project.ok("repair", "messages", "--yes")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (prometheus)")
def test_promtool_accepts_what_the_endpoint_serves(served: Served, project: Project) -> None:
    quiet(project)
    answer = httpx.get(f"{served.url}/metrics").raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=answer.text, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr
    # What was summed, and the minutes since then: fill() also writes into hours that are over.
    ours = "pair = 'messages' and backend_version = 2 and outcome = 'ok'"
    counts: tuple[float, float] | None = None
    deadline = time.monotonic() + 10  # what is served was looked up a moment ago
    while counts is None or (counts[0] != counts[1] and time.monotonic() < deadline):
        (requests,) = project.sql(
            f"select (select coalesce(sum(requests), 0) from crossfade.request_totals where {ours})"
            f" + (select sum(requests) from crossfade.request_minutes where {ours}"
            " and minute >= crossfade_private.rolled_up_to())"
        )[0]
        answer = httpx.get(f"{served.url}/metrics").raise_for_status()
        counted = re.findall(
            r'crossfade_requests_total{backend="2",outcome="ok",pair="messages",wire="."} (\S+)',
            answer.text,
        )
        counts = sum(map(float, counted)), float(requests)
    assert counts[0] == counts[1]


def test_a_session_ends(context: BrowserContext, project: Project) -> None:
    with serving(project.env, *FAST, "--hours", "0.002") as served:
        page = signed_in(context, served)
        expect(page.get_by_text("Your session has ended.")).to_be_visible()
        page.goto(served.url)
        expect(page.get_by_text("Open the link")).to_be_visible()


def test_a_project_or_a_server_that_is_gone_is_never_shown_as_healthy(
    context: BrowserContext, project: Project
) -> None:
    quiet(project)
    line = Line(int(urlsplit(project.stack.info.api_url).port or 0))
    env = {**project.env, "SUPABASE_URL": f"http://127.0.0.1:{line.port}"}
    context.clock.install()
    with serving(env, *FAST) as served, ThreadPoolExecutor() as pool:
        page = signed_in(context, served)
        expect(page.locator("h1")).to_have_text("All is well")
        line.pull()
        # Everybody tries again for some seconds before giving up; so they do it at once.
        scraped = pool.submit(httpx.get, f"{served.url}/metrics", timeout=30)
        expect(page.locator("h1")).to_have_text("Project unreachable")
        expect(page.locator(".headline")).to_contain_text("What you see is what was true")
        assert page.evaluate("document.body.classList.contains('stale')")
        assert "unreachable" in page.title()
        # A page opened now has no numbers at all, not zeros.
        other = context.new_page()
        other.goto(served.url)
        expect(other.locator("h1")).to_have_text("Project unreachable")
        metrics = scraped.result().text
        assert "crossfade_up 0.0" in metrics
        assert "crossfade_stage" not in metrics
        served.stop()
        context.clock.fast_forward(6000)
        expect(page.locator("#lost")).to_contain_text("has lost its server")
        expect(page.locator("#lost")).to_be_visible()
        assert page.title() == "✖ lost, crossfade"
