"""The way forward, as an operator goes it: from the V1 history to version 2 for everybody."""

import uuid
from collections.abc import Callable
from decimal import Decimal

from crossfade.core.contract import Stage
from crossfade.core.values import Key
from crossfade.demo.console import Showing
from crossfade.demo.failures import StoryError
from crossfade.demo.history import chats, load_history, returning_senders
from crossfade.demo.races import Racer
from crossfade.demo.traffic import ClientTraffic, sign_up_users
from crossfade.demo.world import PAIR, World
from crossfade.runs.backfill import run_backfill
from crossfade.runs.driver import DriveOptions
from crossfade.runs.model import Batch
from crossfade.runs.progress import Progress
from crossfade.runs.verify import run_verify

CHECK_ROWS = 10_000
STALL_S = 60.0
STAFF = 4


def sign_up(world: World, showing: Showing) -> None:
    """Sign up all users; some of them stand for senders of the history."""
    plan = world.options.plan
    senders = returning_senders(world.conversations, count=plan.returning, rows=world.options.rows)
    count = plan.v1 + plan.v2 + plan.both + len(senders) + STAFF
    accounts = sign_up_users(world.endpoint, count)
    world.staff, world.accounts = accounts[:STAFF], accounts[STAFF:]
    world.owners = {
        sender: uuid.UUID(account.user_id)
        for sender, account in zip(senders, world.accounts, strict=False)
    }
    showing.outcome = f"{count} users, {len(senders)} of them come back to an old chat"


def load(world: World, showing: Showing) -> None:
    """Load the history into the live V1 tables, while the pair is off."""
    history = list(chats(world.conversations, rows=world.options.rows, owners=world.owners))
    rows = load_history(world.conn, history)
    owners = set(world.owners.values())
    world.returning = [chat for chat in history if chat.user_id in owners]
    world.measured.history_rows = rows
    showing.outcome = f"{rows:,} messages of {len(history):,} chats"


def open_doors(world: World, showing: Showing) -> None:
    """Start the clients; they work until the end."""
    world.traffic = ClientTraffic(
        world.endpoint,
        world.options.plan,
        accounts=world.accounts,
        desk=world.desk,
        chats=world.returning,
    )
    world.traffic.start()
    world.mark("clients start")
    before = world.served()
    world.dwell(showing, world.pace.settle_s, "stage off")
    showing.outcome = world.seen(before)


def prove_converters(world: World, showing: Showing) -> None:
    """Hold every row of the history against the laws of conversion, before anything is on."""
    total = world.measured.history_rows or 0
    checked, found, after = 0, 0, None
    done = False
    while not done:
        world.check()
        part = world.gateway.check_conversion(PAIR, side=1, after=after, max_rows=CHECK_ROWS)
        checked, found = checked + part.rows_checked, found + sum(part.by_law.values())
        after, done = _next(part.last_key, after), part.done
        showing.bar("rows proved", checked, max(total, checked))
        for violation in part.violations[:3]:
            showing.note(f"law {violation.law} broken by {violation.key}: {violation.error or ''}")
    world.measured.converters_checked = checked
    world.measured.converter_violations = found
    showing.outcome = f"{checked:,} rows there and back, {found} violations"
    if found:
        raise StoryError(f"{found} rows break the laws of conversion")


def _next(last: Key | None, before: Key | None) -> Key | None:
    if last is not None and last == before:
        raise StoryError("The check of the converters does not advance")
    return last


def dual_write(world: World, showing: Showing) -> None:
    """Mirror every write from here on."""
    set_stage(world, Stage.DUALWRITE, "mirror every write")
    before = world.served()
    world.dwell(showing, world.pace.settle_s / 2, "stage dualwrite")
    showing.outcome = world.seen(before)


def backfill(world: World, showing: Showing) -> None:
    """Copy the old rows, while clients write and a job changes rows in the moment of copying."""
    place = _Place()
    racer = Racer(
        world.connect,
        journal=world.desk.journal,
        position=place.fraction,
        protected=frozenset(m.id for chat in world.returning for m in chat.messages),
    )
    world.mark("backfill")
    racer.start()
    try:
        options = DriveOptions(stall_s=STALL_S, on_progress=place.watch(world, showing, "copied"))
        last = run_backfill(world.gateway, PAIR, options=options)
    finally:
        result = racer.stop()
    _finished(last, "backfill")
    world.measured.backfill_rows_per_s = rate(last)
    world.measured.races = result.races
    world.measured.zombies = result.zombies + result.stale
    showing.outcome = (
        f"{last.run.rows_done:,} rows, {rate(last):,.0f} rows/s;"
        f" {result.races} rows deleted or changed under its hands, {result.zombies} came back"
    )
    if result.races == 0:
        raise StoryError("No row could be changed while the backfill copied it: nothing is shown")
    if result.zombies or result.stale:
        raise StoryError("The backfill copied rows that were being deleted: its row lock is broken")


def verify(world: World, showing: Showing) -> None:
    """Compare both tables through the converters."""
    place = _Place()
    world.mark("verify")
    options = DriveOptions(stall_s=STALL_S, on_progress=place.watch(world, showing, "compared"))
    last = run_verify(world.gateway, PAIR, options=options)
    _finished(last, "verify")
    world.measured.verify_rows_per_s = rate(last)
    world.measured.verify_mismatches = last.run.mismatches
    showing.outcome = (
        f"{last.run.rows_done:,} rows, {rate(last):,.0f} rows/s, {last.run.mismatches} differ"
    )
    if last.run.mismatches:
        raise StoryError(
            f"{last.run.mismatches} rows differ after the backfill: the mirror missed writes"
        )


def shadow(world: World, showing: Showing) -> None:
    """Read version 2 in the background and compare, until enough reads were compared."""
    pace = world.pace
    for name, value in (("shadow_sample_rate", "1"), ("shadow_min_reads", str(pace.shadow_reads))):
        world.gateway.set_setting(name, value, reason="demo: its days are seconds")
    set_stage(world, Stage.SHADOW, "compare reads")
    waited = 0.0
    while waited < pace.shadow_timeout_s:
        world.dwell(showing, 1.0, "stage shadow")
        waited += 1.0
        reads = world.gateway.health_sample(PAIR).shadow
        world.measured.shadow_compared = reads.compared
        world.measured.shadow_mismatched = reads.mismatched
        showing.bar("reads compared", reads.compared, pace.shadow_reads)
        if reads.compared >= pace.shadow_reads:
            break
    reads_of = world.measured
    showing.outcome = (
        f"{reads_of.shadow_compared} reads compared, {reads_of.shadow_mismatched} differ"
    )
    if reads_of.shadow_mismatched:
        raise StoryError("Backend 2 would have answered reads differently")
    if (reads_of.shadow_compared or 0) < pace.shadow_reads:
        raise StoryError(f"Too few reads were compared in {pace.shadow_timeout_s:.0f} s")


def go_live(world: World, showing: Showing) -> None:
    """Let version 2 serve the first 5 % and four of the staff."""
    set_stage(world, Stage.LIVE, "first users")
    staff = [account.user_id for account in world.staff]
    users = [*staff, *(account.user_id for account in world.accounts[-2:])]
    world.gateway.set_cohort(
        PAIR,
        {"percentage": Decimal(5), "enabled_user_ids": users},
        reason="demo: 5 % and the staff",
    )
    world.mark("5 %")
    settle(world, showing, "live, 5 %")


def widen(world: World, showing: Showing, percentage: int) -> None:
    """Let version 2 serve more users."""
    world.gateway.set_cohort(
        PAIR, {"percentage": Decimal(percentage)}, reason=f"demo: widen to {percentage} %"
    )
    world.mark(f"{percentage} %")
    settle(world, showing, f"live, {percentage} %")


def ramp_down(world: World, showing: Showing) -> None:
    """Serve everybody from version 2; it leads from here on."""
    set_stage(world, Stage.RAMPDOWN, "version 2 serves everybody")
    settle(world, showing, "stage rampdown")


def back_and_forth(world: World, showing: Showing) -> None:
    """Go back behind the cut-over, and forward again: no data moves, only rows of control."""
    set_stage(world, Stage.SHADOW, "show the way back after the cut-over")
    before = world.served()
    world.dwell(showing, world.pace.settle_s, "back in stage shadow")
    back = world.seen(before)
    set_stage(world, Stage.LIVE, "forward again")
    world.gateway.set_cohort(PAIR, {"percentage": Decimal(100)}, reason="demo: forward again")
    world.mark("100 %")
    world.dwell(showing, world.pace.settle_s / 2, "live, 100 %")
    set_stage(world, Stage.RAMPDOWN, "forward again")
    before = world.served()
    world.dwell(showing, world.pace.settle_s / 2, "stage rampdown")
    showing.outcome = f"back: {back}; forward: {world.seen(before)}"


def set_stage(world: World, stage: Stage, why: str) -> None:
    """Move the pair as an operator does."""
    world.gateway.set_stage(PAIR, stage, reason=f"demo: {why}", confirm=False)
    world.mark(stage.value)


def settle(world: World, showing: Showing, what: str) -> None:
    """Let the clients work and say who served them; version 2 must have served somebody."""
    before = world.served()
    for _ in range(6):  # a busy machine may need more than one settle time for a few percent
        world.dwell(showing, world.pace.settle_s, what)
        showing.outcome = world.seen(before)
        if world.served()[2] > before[2]:
            break
    else:
        raise StoryError(f"Backend 2 served nobody ({what})")


def rate(last: Batch) -> float:
    """Return the rows per second of a whole run, waits included, by the database's clock."""
    run = last.run
    if run.started_at is None or run.finished_at is None:
        return 0.0
    seconds = (run.finished_at - run.started_at).total_seconds()
    return round(run.rows_done / max(seconds, 0.001), 1)


def _finished(last: Batch, what: str) -> None:
    if last.run.finished_at is None:
        raise StoryError(
            f"The {what} ended as {last.state}: {last.reason or last.run.reason or ''}"
        )


class _Place:
    """How far a run is, shared with who races it."""

    def __init__(self) -> None:
        self._fraction = 0.0

    def fraction(self) -> float:
        return self._fraction

    def watch(self, world: World, showing: Showing, what: str) -> Callable[[Progress], None]:
        def on_progress(progress: Progress) -> None:
            world.check()
            self._fraction = progress.fraction or 0.0
            reason = f" ({progress.reason})" if progress.reason else ""
            total = max(progress.run.rows_total or 0, progress.run.rows_done)
            showing.bar(f"rows {what}{reason}", progress.run.rows_done, total)

        return on_progress
