"""The shipped plan at accelerated time: through by itself, and back by itself from each step.

Also: a controller that dies anywhere, two monitors and two operators at once.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crossfade.cli.rollout_plan import read_plan
from crossfade.core.contract import Level, RolloutState, Stage
from crossfade.gateway import SupabaseGateway
from crossfade.monitor.alerts import Alert, Alerts
from crossfade.monitor.loop import Monitor, Tick
from crossfade.rollouts.plan import RolloutPlan, RolloutView
from tests.integration.cli_project import Project, running_project
from tests.integration.edge_double import EdgeDouble

PLAN = read_plan(None)
SPEED = 1_000_000  # five weeks in three seconds
ROWS = 200


@pytest.fixture(scope="module")
def project(fresh_dir: Callable[[str], Path]) -> Iterator[Project]:
    with running_project(fresh_dir("rollouts")) as running:
        for name, value in (
            ("shadow_min_reads", "1000"),
            ("stage_bake_s", "0"),
            ("monitor_interval_s", "1"),
        ):
            running.ok("settings", "set", name, value, "--reason", "test", "--yes")
        yield running


@pytest.fixture(scope="module")
def gateway(project: Project) -> Iterator[SupabaseGateway]:
    with project.gateway() as opened:
        yield opened


class Silent:
    def send(self, alert: Alert) -> None:
        """Nobody is told."""


def watcher(gateway: Any, holder: str) -> Monitor:
    return Monitor(gateway, alerts=Alerts([Silent()]), holder=holder)


def until(
    monitor: Monitor, pair: str, met: Callable[[RolloutView, Tick], bool], limit_s: float = 60
) -> RolloutView:
    """Tick until it is so."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        (tick,) = monitor.tick((pair,))
        view = monitor.gateway.rollout_status(pair)
        if met(view, tick):
            return view
        time.sleep(0.02)
    raise AssertionError(f"never happened: {view.stage} {view.percentage} {view.waits}")


def rows_equal(project: Project, name: str) -> bool:
    query = f"""
        select count(*) from public.{name} a full join public.{name}_v2 b using (id)
        where a.id is null or b.id is null or a.body is distinct from b.blocks -> 0 ->> 'text'"""
    return bool(project.sql(query)[0][0] == 0)


def test_the_shipped_plan_runs_through_by_itself_on_healthy_traffic(
    project: Project, gateway: SupabaseGateway
) -> None:
    project.make_tables("weeks", ROWS)
    project.register("weeks")
    with EdgeDouble(gateway, "weeks") as edge:
        words = ["rollout", "start", "weeks", "--reason", "test", "--yes", "--watch"]
        words += ["--speed", str(SPEED), "--interval", "0.1", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "crossfade", *words],
            env={**os.environ, **project.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: gateway.rollout_status("weeks").is_active)
            # Two steps are for a person to approve; everything else it does by itself.
            project.ok("rollout", "approve", "weeks", "--step", "*", "--reason", "ok", "--yes")
            write_until_archived(project, "weeks")
            out, said = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert json.loads(out)["rollout"]["state"] == "finished"
    assert [f"weeks: {step.name}" in said for step in PLAN.steps] == [True] * len(PLAN.steps)
    assert edge.served[2, "ok"] > 0
    assert rows_equal(project, "weeks")
    enabled = {name for name, flag in gateway.read_flags().flags.items() if flag.enabled}
    assert {"enable_memory_system", "enable_caching"} <= enabled
    assert "maintain_dual_write" not in enabled


def write_until_archived(project: Project, name: str) -> None:
    """Write V1 rows as a client that knows nothing of all this, until the last step refuses it."""
    with pytest.raises(psycopg.Error) as refused:  # noqa: PT012 - it is the writes that go on
        for number in range(ROWS + 1, 100_000):
            project.sql(f"insert into public.{name} values ({number}, 'during', null)")
    assert "CF_ARCHIVED" in str(refused.value.diag.message_detail)


def wait_until(true: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_goes_back_by_itself_from_every_step_at_which_backend_2_breaks(
    project: Project, gateway: SupabaseGateway
) -> None:
    project.make_tables("breaks", ROWS)
    project.register("breaks")
    gateway.start_rollout("breaks", PLAN, reason="test", speed=SPEED)
    monitor, decided_s = watcher(gateway, "only"), dict[str, float]()
    with EdgeDouble(gateway, "breaks") as edge:
        for place, step in enumerate(PLAN.steps[:-1], start=1):
            approve(gateway, "breaks")
            until(monitor, "breaks", reached(place))
            if step.share == 0:
                breaks_the_mirror(project, gateway, monitor, step.name)
                continue
            decided_s[step.name] = breaks_requests(gateway, monitor, edge)
    assert set(decided_s) == {step.name for step in PLAN.steps if 0 < step.share <= 1} - {
        PLAN.steps[-1].name
    }
    assert max(decided_s.values()) < 60
    assert rows_equal(project, "breaks")
    monitor.release()


def reached(place: int) -> Callable[[RolloutView, Tick], bool]:
    return lambda view, _: view.reached == place


def approve(gateway: SupabaseGateway, pair: str) -> None:
    gateway.control_rollout(pair, "approve", reason="test", step="*")


def breaks_requests(gateway: SupabaseGateway, monitor: Monitor, edge: EdgeDouble) -> float:
    """Every V2 request fails: back, latched, nothing advances; mended, it goes on from there."""
    gateway.control_rollout("breaks", "hold", reason="look")  # so that it cannot slip by
    began, edge.broken = time.monotonic(), True
    for _ in range(2):  # with the second report the first one is known
        failed = edge.served[2, "error"]
        while edge.served[2, "error"] == failed:
            assert time.monotonic() < began + 20, "the edge reports nothing"
            time.sleep(0.02)
    gateway.control_rollout("breaks", "resume", reason="look")
    view = until(monitor, "breaks", lambda _, tick: tick.rolled_back is not None)
    decided = time.monotonic() - began
    edge.broken = False
    assert (view.stage, view.percentage, view.latched) == (Stage.SHADOW, Decimal(0), True)
    assert view.rollout is not None
    assert view.rollout.state is RolloutState.ROLLED_BACK
    for _ in range(3):
        monitor.tick(("breaks",))
    assert gateway.rollout_status("breaks").stage is Stage.SHADOW
    for switch in gateway.read_flags().engaged():
        gateway.release_kill_switch(switch.name, reason="mended")
    gateway.rearm("breaks", reason="mended")
    return decided


def breaks_the_mirror(
    project: Project, gateway: SupabaseGateway, monitor: Monitor, step: str
) -> None:
    """Nobody is on V2 yet, so there is nothing to go back from: it does not go on, V1 works."""
    project.sql("alter table public.breaks_v2 add constraint broken check (note is null) not valid")
    gateway.control_rollout("breaks", "hold", reason="look")  # so that it cannot slip by
    project.sql(f"insert into public.breaks values ({hash(step) % 10**9 + 1000}, 'x', 'y')")
    gateway.control_rollout("breaks", "resume", reason="look")
    before = gateway.rollout_status("breaks").stage
    for _ in range(3):
        (tick,) = monitor.tick(("breaks",))
        assert tick.advanced is None
    assert "R8" in " ".join(wait.message for wait in gateway.rollout_status("breaks").waits)
    assert gateway.rollout_status("breaks").stage is before
    project.sql("alter table public.breaks_v2 drop constraint broken")
    gateway.repair("breaks", max_rows=100, reason="mended")


# A controller that dies --------------------------------------------------------------------


class Killed(BaseException):
    """What SIGKILL is for the database: the controller calls nothing any more."""


class Mortal:
    """A gateway whose user dies before or after its n-th call."""

    def __init__(self, gateway: SupabaseGateway, at: int, *, after: bool) -> None:
        self._gateway = gateway
        self._at = at
        self._after = after
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._gateway, name)

        def call(*args: Any, **named: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self._at and not self._after:
                raise Killed
            answer = method(*args, **named)
            if len(self.calls) == self._at:
                raise Killed
            return answer

        return call


PLANNED = replace(PLAN, name="short", steps=tuple(replace(s, min_s=0) for s in PLAN.steps[2:5]))
FAULTS: dict[Level, list[dict[str, object]]] = {
    Level.PARTIAL: [{"outcome": "ok", "count": 20, "memory_bytes": 2**28}] * 3,
    Level.COMPLETE: [
        {"outcome": outcome, "count": 4} for _ in range(8) for outcome in ("error", "ok")
    ],
    Level.EMERGENCY: [{"outcome": "error", "count": 6}],
}
AFTER = {
    Level.PARTIAL: (Stage.LIVE, Decimal(5)),
    Level.COMPLETE: (Stage.SHADOW, Decimal(0)),
    Level.EMERGENCY: (Stage.SHADOW, Decimal(0)),
}


@pytest.mark.parametrize("level", list(FAULTS))
def test_a_controller_killed_at_any_call_leaves_one_rollback_for_the_next_one(
    project: Project, gateway: SupabaseGateway, level: Level
) -> None:
    pair = f"killed_{level.value.lower()}"
    project.make_pair(pair, rows=5, stage="live")
    project.sql(
        "update crossfade.settings set value = '0' where name in ('r6_hold_s', 'r1_hold_s')"
    )
    project.sql(
        """update crossfade.settings set value = '{"R1s": "warn"}' where name = 'rule_modes'"""
    )
    deaths, calls = 0, 0
    for turn in range(200):
        at, after = turn // 2 + 1, turn % 2 == 1
        break_at_25(project, gateway, pair, level)
        first = Mortal(gateway, at, after=after)
        try:
            watcher(first, "first").tick((pair,))
        except Killed:
            deaths += 1
        else:
            calls = len(first.calls)
            break
        between = gateway.rollout_status(pair)
        assert (between.stage, between.percentage) in ((Stage.LIVE, Decimal(25)), AFTER[level])
        project.sql("update crossfade.monitors set lease_until = now() - interval '1 second'")
        second = watcher(gateway, "second")
        for _ in range(2):
            second.tick((pair,))
        second.release()
        found = gateway.rollout_status(pair)
        assert (found.stage, found.percentage, found.latched) == (*AFTER[level], True)
        assert count(project, "rollbacks", pair) == 1, first.calls
    assert deaths == 2 * calls >= 16
    assert "rollback" in first.calls


def count(project: Project, table: str, pair: str) -> int:
    return int(project.sql(f"select count(*) from crossfade.{table} where scope = '{pair}'")[0][0])


def break_at_25(project: Project, gateway: SupabaseGateway, pair: str, level: Level) -> None:
    """Put the pair at 25 % of a plan, whatever was before, and let backend 2 break."""
    project.sql(
        f"""
        update crossfade.monitors set holder = null, heartbeat_at = null, lease_until = null;
        delete from crossfade.rollbacks where scope = '{pair}';
        delete from crossfade.rollouts where pair = '{pair}';
        delete from crossfade.memory_reports;
        delete from crossfade.verdicts where pair = '{pair}';
        update crossfade.kill_switches set engaged = false where engaged;
        update crossfade.pairs set stage = 'live', latched_at = null, latch_reason = null,
          step = step + 1, step_started_at = clock_timestamp() where name = '{pair}';
        update crossfade.cohorts set percentage = 25 where pair = '{pair}';
        """
    )
    gateway.start_rollout(pair, PLANNED, reason="test")
    base = {"pair": pair, "backend_version": 2, "wire_version": 1, "latency_ms": 9}
    gateway._api.rpc("record_requests", batch=[{**base, **fault} for fault in FAULTS[level]])


# Two of each at once -----------------------------------------------------------------------


def test_two_monitors_and_two_operators_at_once_make_one_decision_that_both_see(
    project: Project,
) -> None:
    project.make_pair("both", rows=5, stage="live")
    project.sql("update crossfade.settings set value = '{}' where name = 'rule_modes'")
    with project.gateway() as one, project.gateway() as two:
        project.sql("update crossfade.monitors set holder = null, lease_until = null")
        plan = RolloutPlan("both", tuple(replace(s, approval="manual") for s in PLANNED.steps))
        one.set_cohort("both", {"percentage": Decimal(25)}, reason="test")
        one.start_rollout("both", plan, reason="test")
        names = [step.name for step in plan.steps]
        seen: dict[str, list[Tick]] = {"a": [], "b": []}
        errors: list[BaseException] = []
        barrier = threading.Barrier(4)

        def monitor(holder: str, gateway: SupabaseGateway) -> None:
            mine = watcher(gateway, holder)
            barrier.wait(20)
            for _ in range(8):
                seen[holder] += mine.tick(("both",))

        def operator(gateway: SupabaseGateway, mine: list[str], theirs: str) -> None:
            barrier.wait(20)
            for name in mine:
                gateway.control_rollout("both", "approve", reason="ok", step=name)
            gateway.set_cohort("both", {theirs: ["someone"]}, reason="ok")

        def guarded(work: Callable[..., None], *given: Any) -> threading.Thread:
            def run() -> None:
                try:
                    work(*given)
                except BaseException as error:
                    errors.append(error)

            return threading.Thread(target=run)

        threads = [
            guarded(monitor, "a", one),
            guarded(monitor, "b", two),
            guarded(operator, one, names[:2], "enabled_user_ids"),
            guarded(operator, two, names[2:], "denied_user_ids"),
        ]
        base = {"pair": "both", "backend_version": 2, "wire_version": 1, "latency_ms": 9}
        one._api.rpc("record_requests", batch=[{**base, "outcome": "error", "count": 20}])
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []

        assert count(project, "rollbacks", "both") == 1
        assert one.rollout_status("both").latched
        deciders = {holder for holder, ticks in seen.items() if not ticks[-1].standby}
        assert len(deciders) == 1
        for ticks in seen.values():
            said = {verdict.rule: verdict.verdict for verdict in ticks[-1].verdicts}
            assert "R1k" in said
        # No update of either operator is lost, whoever came first.
        cohort = one.read_flags().pairs["both"].cohort
        assert cohort is not None
        assert (cohort.enabled_user_ids, cohort.denied_user_ids) == (("someone",), ("someone",))
        approvals = project.sql(
            "select count(*) from crossfade.audit"
            " where object = 'both' and action = 'rollout.approve'"
        )
        assert approvals == [(len(names),)]


@pytest.mark.parametrize(("number", "kept"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
def test_a_monitor_that_is_stopped_gives_its_lease_back_and_one_that_is_killed_cannot(
    project: Project, number: signal.Signals, kept: int
) -> None:
    holders = "select count(holder) from crossfade.monitors"
    project.sql("update crossfade.monitors set holder = null, lease_until = null")
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade", "monitor", "run", "--interval", "0.2"],
        env={**os.environ, **project.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: project.sql(holders) == [(1,)])
        process.send_signal(number)
        process.wait(timeout=30)
    finally:
        process.kill()
    assert project.sql(holders) == [(kept,)]
