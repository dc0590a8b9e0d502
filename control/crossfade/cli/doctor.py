"""``crossfade doctor``."""

import asyncio
from collections.abc import Iterator

import typer

from crossfade.cli.options import AsJson
from crossfade.cli.output import emit, say, table
from crossfade.cli.session import Session, session
from crossfade.core.errors import CrossfadeError, InvalidArgumentError, OlderSchemaError, redact
from crossfade.monitor.alert_targets import read_targets
from crossfade.ports import Gateway
from crossfade.project import resources
from crossfade.project.config import Connection, load_settings
from crossfade.views import doctor
from crossfade.views.doctor import Finding, State

JOIN_WITHIN_S = 10


def diagnose(context: typer.Context, as_json: AsJson = False) -> None:
    """Look for what is wrong with the project and say what to do. Exit code 1 when something is.

    Looks at the key, the exposed schema, versions, clocks, timeouts, Realtime, operators, alert
    targets, and runs every check of sql/checks in the database. Changes nothing.

    Example: crossfade doctor
    """
    findings = tuple(_look(session(context)))
    rows = [(item.state, item.check, item.what, item.do or None) for item in findings]
    emit(findings, as_json=as_json, render=lambda: table(("STATE", "CHECK", "WHAT", "DO"), rows))
    found = doctor.counts(findings)
    say(", ".join(f"{found[state]} {state}" for state in State))
    if found[State.FAIL]:
        raise typer.Exit(1)


def _look(here: Session) -> Iterator[Finding]:
    connection: Connection | None = None
    try:
        if here.opened is None:
            connection = here.connection()
            key = connection.key.get_secret_value()
            yield doctor.judge_key(key, is_person=connection.token is not None)
        opened = here.gateway(check=False)
        try:
            schema = opened.check_schema()
        except OlderSchemaError as error:
            release = ""
            yield doctor.failed("schema", error)
        else:
            release = opened.installed_release()
            yield doctor.judge_schema(schema, release)
    except CrossfadeError as error:
        yield doctor.failed("connection", error)
        return  # nothing else can be asked
    try:
        facts = opened.diagnose()
    except CrossfadeError as error:
        yield doctor.failed("database", error)
    else:
        yield from doctor.judge_database(facts)
        if connection is not None:
            yield doctor.judge_realtime(facts.has_realtime, _join(connection))
    yield from _checks(opened, release)
    try:
        yield doctor.judge_alerts(len(read_targets(here.settings or load_settings())))
    except CrossfadeError as error:
        yield doctor.failed("alerts", error)


def _checks(opened: Gateway, release: str) -> Iterator[Finding]:
    unknown = []
    for path in sorted(resources.resource("sql/checks").glob("*.sql")):
        # Bytes as they are: the database compares the digest of this very text.
        query = path.read_bytes().decode()
        try:
            yield from doctor.judge_check(path.stem, opened.run_check(path.stem, query))
        except InvalidArgumentError:
            unknown.append(path.stem)
        except CrossfadeError as error:
            yield doctor.failed(path.stem, error)
    yield from doctor.judge_unknown_checks(unknown, release)


def _join(connection: Connection) -> str | None:
    """Join the control topic as a listener does; None, or why it did not work."""
    from crossfade.gateway.realtime import open_session  # slow to import, so only when needed

    async def join() -> None:
        async with asyncio.timeout(JOIN_WITHIN_S):
            await (await open_session(connection)).close()

    try:
        asyncio.run(join())
    except TimeoutError:
        return f"no answer within {JOIN_WITHIN_S} s"
    except Exception as error:
        # Whatever the client comes up with is a finding, and no reason to stop looking.
        return " ".join(redact(str(error)).split())[:200] or type(error).__name__
    return None
