"""Run the demo: a stack, the story, the proof, the report. Leaves nothing running."""

import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import resources
from pathlib import Path

import psycopg
from pydantic import SecretStr
from rich.console import Console

from crossfade.core.errors import CrossfadeError, UsageError
from crossfade.demo import report as reports
from crossfade.demo import timeline
from crossfade.demo.console import DemoConsole, Showing
from crossfade.demo.failures import StoryError
from crossfade.demo.history import chats, read_dataset
from crossfade.demo.journal import Journal
from crossfade.demo.meter import RequestMeter
from crossfade.demo.proof import Proof, prove
from crossfade.demo.report import ClientFigures, Report
from crossfade.demo.session import Desk
from crossfade.demo.story import STEPS
from crossfade.demo.traffic import Endpoint
from crossfade.demo.watchman import Watchman
from crossfade.demo.world import PAIR, DemoOptions, World
from crossfade.gateway import SupabaseGateway
from crossfade.local import LocalStack, running_stack
from crossfade.project.config import Connection

JOURNAL = "journal.jsonl"
REPORT = "report.json"
PICTURE = "timeline.svg"
LOGS = "logs"


def run_demo(options: DemoOptions, console: Console) -> Report:
    """Run the demo and write report and picture below `options.out_dir`.

    Args:
        options: What to do.
        console: Where progress is shown.

    Raises:
        CrossfadeError: The stack could not start, or the folder is in use.
    """
    show = DemoConsole(console)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        world = _set_up(options, show, cleanup)
        report = _tell(world)
        reports.write(report, options.out_dir / REPORT)
        timeline.draw(options.out_dir / PICTURE, world.desk.meter.seconds(), world.events)
        if report.broken or report.clients.errors:
            _keep_logs(Path(world.stack.info.data_dir), options.out_dir)
    return report


def _keep_logs(data_dir: Path, out_dir: Path) -> None:
    """Copy the logs of the stack beside the report: its folder is about to go."""
    shutil.rmtree(out_dir / LOGS, ignore_errors=True)
    shutil.copytree(data_dir / "logs", out_dir / LOGS, dirs_exist_ok=True)


def _set_up(options: DemoOptions, show: DemoConsole, cleanup: ExitStack) -> World:
    with show.step("stack", "Start an embedded Supabase") as showing:
        folder = cleanup.enter_context(_data_dir(options))
        stack = LocalStack(folder, env={"CROSSFADE_BROADCAST": "on"}, progress=_progress(showing))
        stack.start(attached=not options.keep)
        cleanup.push(partial(_leave, stack, options.keep))
        info = stack.info
        gateway = SupabaseGateway(
            Connection(info.api_url, SecretStr(info.secret_key), "demo", "embedded stack")
        )
        cleanup.callback(gateway.close)
        gateway.check_schema()
        conn = cleanup.enter_context(psycopg.connect(info.db_url, autocommit=True))
        conn.execute(watch_sql())
        if options.sabotage_sql:
            with psycopg.connect(info.admin_db_url, autocommit=True) as admin:
                admin.execute(options.sabotage_sql.encode())
            showing.note("[red]the engine was broken on purpose[/red]")
        journal = Journal(options.out_dir / JOURNAL)
        cleanup.callback(journal.close)
        watchman = Watchman(
            gateway, PAIR, interval_s=options.pace.monitor_interval_s, tell=show.say
        )
        cleanup.callback(watchman.stop)
        world = World(
            options=options,
            console=show,
            stack=stack,
            gateway=gateway,
            desk=Desk(journal, RequestMeter()),
            conn=conn,
            endpoint=Endpoint(
                info.api_url, f"{info.api_url}/functions/v1/chat", info.publishable_key
            ),
            conversations=read_dataset(),
            watchman=watchman,
        )
        watchman.start()
        showing.outcome = info.api_url
    return world


def _tell(world: World) -> Report:
    """Go through the story, then check what is there, however far it came."""
    stopped_at = stopped_because = None
    try:
        for step in STEPS:
            if world.options.only is not None and step.name not in world.options.only:
                continue
            stopped_at = step.name
            with world.console.step(step.name, step.title) as showing:
                step.act(world, showing)
        stopped_at = None
    except (StoryError, CrossfadeError) as error:
        stopped_because = error.line() if isinstance(error, CrossfadeError) else str(error)
        world.mark(f"stopped: {stopped_at}")
        world.console.say(f"  [red]{stopped_because}[/red]")
    finally:
        if world.traffic is not None:
            world.traffic.stop()
        world.watchman.stop()
    # Before the backfill has ended nobody promises that the two tables are equal.
    proof = _prove(world) if world.measured.backfill_rows_per_s is not None else None
    world.desk.journal.close()
    return Report(
        measured=world.measured,
        clients=_figures(world),
        proof=proof,
        duration_s=round(world.console.elapsed_s(), 1),
        steps=tuple(world.console.steps),
        events=tuple((event.at_s, event.text) for event in world.events),
        stopped_at=stopped_at,
        stopped_because=stopped_because,
        kept_in=world.stack.info.data_dir if world.options.keep else None,
        environment=_environment(world),
    )


def _prove(world: World) -> Proof:
    with world.console.step("proof", "Check every row in SQL, beside the engine") as showing:
        history = chats(world.conversations, rows=world.options.rows, owners=world.owners)
        journal = world.options.out_dir / JOURNAL
        proof = prove(world.conn, journal=journal, history=history, pair=PAIR)
        for finding in proof.findings:
            showing.note(f"[red]{finding.promise}[/red]: {finding.count} rows {finding.problem}")
        problems = sum(finding.count for finding in proof.findings)
        showing.outcome = f"{proof.v1_rows:,} and {proof.v2_rows:,} rows, {problems} problems"
    return proof


def _figures(world: World) -> ClientFigures:
    meter, journal = world.desk.meter, world.desk.journal
    seconds = meter.seconds()
    active = max(1, seconds[-1].at_s - seconds[0].at_s + 1) if seconds else 1
    return ClientFigures(
        requests=meter.total(),
        requests_per_s=round(meter.total() / active, 1),
        writes_acknowledged=journal.acknowledged,
        writes_unknown=journal.unknown,
        v1_errors=meter.errors_of(1),
        v2_errors=meter.errors_of(2),
        fallbacks=meter.fallbacks,
        errors={f"v{wire} {kind}": count for (wire, kind), count in sorted(meter.errors.items())},
        samples=[
            {"at_s": one.at_s, "wire": one.wire, "kind": one.kind, "text": one.text}
            for one in meter.samples
        ],
    )


def _environment(world: World) -> dict[str, str]:
    row = world.conn.execute("show server_version").fetchone()
    return {
        "cpus": str(os.cpu_count()),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "postgres": str(row[0]) if row else "",
        "monitor": ", ".join(f"{k} {v}" for k, v in sorted(world.watchman.outcomes.items())),
    }


@contextmanager
def _data_dir(options: DemoOptions) -> Iterator[Path]:
    """Yield an empty folder for the stack; remove it afterwards if it is ours and not kept."""
    if options.data_dir is not None:
        if options.data_dir.exists() and any(options.data_dir.iterdir()):
            raise UsageError(
                f'Cannot run the demo in "{options.data_dir}": the folder is not empty',
                hint="The demo needs a database of its own: name a new folder, or none",
            )
        yield options.data_dir
        return
    for left in options.out_dir.glob("stack-*"):
        # Of a demo that was killed. A kept one still runs and is left alone.
        if running_stack(left) is None:
            shutil.rmtree(left, ignore_errors=True)
    # Not mkdtemp: as root, PostgreSQL runs as another user, who must reach the folder.
    folder = (options.out_dir / f"stack-{os.getpid()}-{secrets.token_hex(2)}").resolve()
    try:
        yield folder
    finally:
        if running_stack(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)


def _leave(stack: LocalStack, keep: bool, _kind: object, error: object, _trace: object) -> None:
    """Stop the stack; a kept one only when the demo was interrupted or broke."""
    if error is not None or not keep:
        stack.stop()


def _progress(showing: Showing) -> Callable[[str], None]:
    """Show what the stack does, without the twenty migrations."""

    def note(text: str) -> None:
        if not text.startswith("applying 2"):
            showing.note(text)

    return note


def watch_sql() -> bytes:
    """Return the SQL that the demo adds to the project: the fault and the witness."""
    return resources.files("crossfade.demo").joinpath("sql", "watch.sql").read_bytes()
