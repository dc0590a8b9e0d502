"""What goes wrong on purpose: a faulty version 2, and a kill under load."""

import random
import time
from decimal import Decimal

import httpx

from crossfade.core.contract import Stage
from crossfade.demo.client import ChatClient, http_client
from crossfade.demo.console import Showing
from crossfade.demo.drill import Drill
from crossfade.demo.failures import StoryError
from crossfade.demo.fault import Fault
from crossfade.demo.forward import set_stage, settle
from crossfade.demo.probes import V2, Prober
from crossfade.demo.session import Visit
from crossfade.demo.world import PAIR, World
from crossfade.rollback.model import RollbackEntry

# Cut off from Realtime, from the clock's refresh, and from the answers of record_requests, which
# would tell it the newest flags_version.
CUT_OFF = {
    "CROSSFADE_BROADCAST": "off",
    "CROSSFADE_SOFT_AGE_MS": "3600000",
    "CROSSFADE_HARD_AGE_MS": "3600000",
    "CAPTURE_METRICS": "false",
}


def fail_and_roll_back(world: World, showing: Showing) -> None:
    """Break version 2 and wait for the monitor; nobody else does anything."""
    fault, meter = Fault(world.conn), world.desk.meter
    errors, fallbacks = meter.errors_of(1), meter.fallbacks
    known = {entry.id for entry in world.gateway.list_rollbacks()}
    since = fault.begin(delay_ms=world.pace.fault_delay_ms)
    world.mark("fault")
    try:
        entry = _await_rollback(world, showing, known)
    finally:
        fault.end()
    world.mark("rolled back")
    measured = world.measured
    measured.auto_rollback_seconds = round((entry.at - since).total_seconds(), 2)
    measured.auto_rollback_level = entry.level.value
    measured.auto_rollback_reason = entry.reason
    _check_rolled_back(world)
    before = world.served()
    world.dwell(showing, min(3.0, world.pace.settle_s), "after the rollback")
    if world.served()[2] > before[2]:
        raise StoryError("The automatic rollback was logged, but backend 2 still serves")
    measured.v1_errors_during_fault = meter.errors_of(1) - errors
    showing.outcome = (
        f"{entry.level} rollback after {measured.auto_rollback_seconds} s ({entry.reason});"
        f" {meter.fallbacks - fallbacks} requests fell back to V1,"
        f" V1 clients saw {measured.v1_errors_during_fault} errors"
    )


def _await_rollback(world: World, showing: Showing, known: set[int]) -> RollbackEntry:
    limit = world.pace.rollback_timeout_s
    started = time.monotonic()
    while (spent := time.monotonic() - started) < limit:
        world.check()
        for entry in world.gateway.list_rollbacks():
            if entry.automatic and entry.id not in known:
                return entry
        showing.bar("version 2 is failing; the monitor watches", spent, limit)
        time.sleep(0.2)
    raise StoryError(
        f"The automatic rollback did not happen within {limit:.0f} s of version 2 failing"
    )


def _check_rolled_back(world: World) -> None:
    status = world.status()
    if status.stage is not Stage.SHADOW or status.percentage != 0 or status.latched_at is None:
        raise StoryError(
            "The automatic rollback was logged but did not happen:"
            f" stage {status.stage}, {status.percentage} %, latched {status.latched_at}"
        )


def recover(world: World, showing: Showing) -> None:
    """The cause is gone: release what was engaged, re-arm with a reason, and go on."""
    reason = "demo: the fault was found and removed"
    for switch in world.gateway.read_flags().kill_switches:
        if switch.engaged:
            world.gateway.release_kill_switch(switch.name, reason=reason)
            showing.note(f"released {switch.name}")
    world.gateway.rearm(PAIR, reason=reason)
    world.mark("re-armed")
    set_stage(world, Stage.LIVE, "continue after the fault")
    world.gateway.set_cohort(PAIR, {"percentage": Decimal(25)}, reason=reason)
    world.mark("25 %")
    settle(world, showing, "live, 25 % again")


def kill_drill(world: World, showing: Showing) -> None:
    """Engage and release a kill switch under load and measure until backend 2 has no effect."""
    url = world.stack.spawn_isolate("chat", env=CUT_OFF)
    probers: list[Prober] = []
    clients = [http_client() for _ in range(3)]
    try:
        reader = _prober(world, 0, clients[0], world.endpoint.chat_url)
        writer = _prober(world, 1, clients[1], world.endpoint.chat_url, writes=True)
        stale = _prober(world, 2, clients[2], url, writes=True, reads=True)
        probers = [reader, writer, stale]
        for prober in probers:
            prober.start()
        drill = Drill(world.gateway, world.conn, (reader, writer), stale, world.check)
        world.mark("kill drill")
        cycles = world.pace.kill_cycles
        result = drill.run(
            cycles,
            limit_s=world.pace.kill_limit_s,
            progress=lambda n: showing.bar("kills", n, cycles),
        )
    finally:
        for prober in probers:
            prober.stop()
        for client in clients:
            client.close()
    world.mark("drill over")
    measured = world.measured
    measured.kill_cycles = len(result.cycles)
    measured.kill_to_effect_ms_p50 = result.effect_ms(0.50)
    measured.kill_to_effect_ms_p99 = result.effect_ms(0.99)
    measured.kill_commit_ms_p50 = result.commit_ms(0.50)
    measured.stale_isolate_believed = result.stale_reads_on_2
    measured.stale_writes_fenced = result.stale_writes_on_1
    showing.outcome = (
        f"{len(result.cycles)} kills, last effect of backend 2 after"
        f" {measured.kill_to_effect_ms_p50} ms (p50), {measured.kill_to_effect_ms_p99} ms (p99);"
        f" the isolate that was cut off read version 2 {result.stale_reads_on_2} times after the"
        f" kill, and {result.stale_writes_on_1} of its writes went to version 1 instead"
    )
    if result.stale_writes_on_2:
        raise StoryError(
            f"{result.stale_writes_on_2} writes reached version 2 after the kill: the fence is open"
        )
    if not result.stale_reads_on_2:
        raise StoryError("The isolate that was cut off noticed the kill: the drill shows nothing")


def _prober(
    world: World,
    number: int,
    http: httpx.Client,
    base_url: str,
    *,
    writes: bool = False,
    reads: bool | None = None,
) -> Prober:
    client = ChatClient(
        http, base_url=base_url, key=world.endpoint.key, account=world.staff[number]
    )
    rng = random.Random(9000 + number)  # noqa: S311 - repeatable, not secret
    session = Visit(client, (V2,), desk=world.desk, rng=rng)
    reads = not writes if reads is None else reads
    return Prober(session, name=f"prober-{number}", reads=reads, writes=writes, pause_s=0.02)
