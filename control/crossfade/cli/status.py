"""The state of everything on one page."""

import sys
import time
from typing import Annotated

import typer

from crossfade.cli.options import AsJson
from crossfade.cli.output import cell, emit, say, seconds, show, table, to_json
from crossfade.cli.session import session
from crossfade.core.errors import CrossfadeError
from crossfade.core.escaping import escaped
from crossfade.flags.share import share_text
from crossfade.views.overview import Overview
from crossfade.views.status import Status, read_status


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option(help="Show it again and again; Ctrl-C ends it.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between two looks of --watch.")
    ] = 2,
    as_json: AsJson = False,
) -> None:
    """Show what is wrong, where each pair stands and what comes next. Exit code 3: needs a person.

    The same numbers as the dashboard and the Prometheus endpoint, read at one moment.

    Example: crossfade status --watch
    """
    here = session(context)
    opened = here.gateway(older=True)
    if not watch:
        found = read_status(opened, url=opened.url, source=here.source)
        emit(found, as_json=as_json, render=lambda: describe(found))
        if found.signals:
            raise typer.Exit(3)
        return
    try:
        while True:
            try:
                found = read_status(opened, url=opened.url, source=here.source)
            except CrossfadeError as error:
                # The last numbers must not look like new ones: there are none on this screen.
                _fresh(f"Cannot read the project at {time.strftime('%H:%M:%S')}: {error.line()}")
            else:
                # One object a line, so that a stream can be read.
                _fresh(to_json(found, indent=None) if as_json else describe(found), plain=as_json)
            time.sleep(interval)
    except KeyboardInterrupt:
        say("Stopped")
        raise typer.Exit(130) from None


def _fresh(text: str, *, plain: bool = False) -> None:
    # Home and clear, only where somebody looks.
    show(text, clear=not plain and sys.stdout.isatty())


def describe(found: Status) -> str:
    """One screen for people."""
    overview = found.overview
    parts = [
        f"{found.url} ({found.source}), {cell(overview.at)},"
        f" flags version {overview.flags_version}",
        _headline(found),
    ]
    if not overview.pairs:
        parts.append("No pair is registered yet. See: crossfade pair register --help")
        return "\n\n".join(parts)
    parts += [_pairs(overview), _traffic(overview), _next(found)]
    for part in (_shares, _runs, _rules, _flags, _last):
        text = part(overview)
        if text:
            parts.append(text)
    return "\n\n".join(parts)


def _headline(found: Status) -> str:
    if not found.signals:
        return "Nothing needs you."
    lines = []
    for signal in found.signals:
        way_out = f"\n    {signal.way_out}" if signal.way_out else ""
        lines.append(f"! {signal.concern.upper()}: {escaped(signal.text)}{way_out}")
    return "\n".join(lines)


def _pairs(overview: Overview) -> str:
    return table(
        ("PAIR", "STAGE", "ON V2", "MIRROR", "FAILURES", "MISMATCHES", "LAST CLEAN VERIFY"),
        (
            (
                pair.name,
                pair.stage,
                "?" if pair.backend is None else f"{cell(pair.backend.share_pct)} %",
                pair.mirror,
                pair.open_failures,
                pair.open_mismatches,
                pair.last_clean_verify_at,
            )
            for pair in overview.pairs
        ),
    )


def _shares(overview: Overview) -> str:
    """Why a share is what it is, where something holds it down."""
    return "\n".join(
        escaped(f"{pair.name}: {share_text(pair.backend, pair.percentage)}")
        for pair in overview.pairs
        if pair.problem is None and (pair.backend is None or pair.backend.causes)
    )


def _traffic(overview: Overview) -> str:
    rows = []
    for pair in overview.pairs:
        share = pair.traffic.v2_share
        for version in (1, 2):
            b = pair.traffic.backend(version)
            part = None if share is None else share if version == 2 else 1 - share
            rows.append(
                (
                    pair.name,
                    f"V{version}",
                    b.requests,
                    _rate(part),
                    _rate(b.error_rate),
                    b.fallbacks,
                    _ms(b.p50_ms),
                    _ms(b.p95_ms),
                    _ms(b.p99_ms),
                )
            )
    head = ("PAIR", "BACKEND", "REQUESTS", "SHARE", "ERRORS", "FALLBACKS", "P50", "P95", "P99")
    return table(head, rows)


def _next(found: Status) -> str:
    lines = []
    for name, step in found.next_steps.items():
        lines.append(f"{name}: next {step.target}" + ("" if step.waits else ", nothing missing"))
        lines += [f"  waits: {wait}" for wait in step.waits]
    return "\n".join(lines)


def _runs(overview: Overview) -> str:
    rows = [
        (
            run.id,
            run.kind,
            run.pair,
            run.state,
            f"{run.rows_done} of {cell(run.rows_total)}",
            None if run.rows_per_s is None else f"{run.rows_per_s:.0f}/s",
            None if run.left_s is None else seconds(run.left_s),
            run.mismatches,
        )
        for pair in overview.pairs
        for run in pair.progress
    ]
    head = ("RUN", "KIND", "PAIR", "STATE", "ROWS", "RATE", "LEFT", "MISMATCHES")
    return table(head, rows) if rows else ""


def _rules(overview: Overview) -> str:
    rows = [
        (pair.name, v.rule, v.verdict, v.value, v.n, v.threshold, v.mode, v.at, v.message)
        for pair in overview.pairs
        for v in pair.verdicts
    ]
    head = ("PAIR", "RULE", "SAYS", "VALUE", "N", "THRESHOLD", "MODE", "AT", "WHY")
    return table(head, rows) if rows else ""


def _flags(overview: Overview) -> str:
    rows = [
        (flag.name, f"{cell(flag.percentage)} %", flag.on, flag.off, _rate(flag.share))
        for flag in overview.flags
        if flag.on or flag.off
    ]
    return table(("FLAG", "COHORT", "ON", "OFF", "ADOPTION"), rows) if rows else ""


def _last(overview: Overview) -> str:
    rows = [(e.at, e.actor, e.action, e.object, e.reason) for e in overview.timeline[:5]]
    return table(("AT", "BY", "ACTION", "OBJECT", "REASON"), rows) if rows else ""


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} ms"
