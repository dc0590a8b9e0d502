"""Runs, rules, features, differences and what happened: the panels that are tables."""

import json

from markupsafe import Markup, escape

from crossfade.core.contract import Outcome
from crossfade.dashboard.panels.words import (
    NONE,
    button,
    count,
    duration,
    moment,
    percent,
    rate,
    table,
)
from crossfade.dashboard.view import View
from crossfade.health.verdicts import Verdict
from crossfade.views.overview import Overview, PairOverview, RunProgress

_VERDICTS = {
    Outcome.PASS: Markup('<span class="says fine">✓ PASS</span>'),
    Outcome.HOLD: Markup('<span class="says attention">▲ HOLD</span>'),
    Outcome.ERROR: Markup('<span class="says unknown">? ERROR</span>'),
    Outcome.FAIL: Markup('<span class="says wrong">✖ FAIL</span>'),
}


_QUIET = frozenset(
    {
        *("step", "step_started_at", "step_flags_version", "stage_xid", "fingerprint", "name"),
        *("converter_hash", "verified_converter_hash", "registered_at", "cohort_key", "pair"),
    }
)
"""Bookkeeping that says nothing to people."""


def runs(view: View) -> Markup:
    """Backfill and verification, with rate and time left."""
    rows = [_run(pair, run) for pair in _pairs(view) for run in pair.progress]
    heads = ("Run", "Pair", "State", "Rows", "Done", "Rows/s", "Time left", "Differ", "Moved")
    return _panel("runs", "Backfill and verification", table("Runs", heads, rows))


def _run(pair: PairOverview, run: RunProgress) -> tuple[object, ...]:
    done = min(1.0, run.rows_done / run.rows_total) if run.rows_total else None
    bar = NONE
    if done is not None:
        bar = Markup(
            '<span class=bar role=img aria-label="{:.0f} per cent"><span style="width:{:.1f}%">'
            "</span></span> {}"
        ).format(done * 100, done * 100, rate(done))
    name = f"{run.kind} {run.id}"
    of = Markup("{} of {}").format(count(run.rows_done), count(run.rows_total))
    return (
        name,
        pair.name,
        run.state.value,
        of,
        bar,
        count(run.rows_per_s),
        duration(run.left_s),
        count(run.mismatches),
        moment(run.progress_at),
    )


def rules(view: View) -> Markup:
    """Every health rule with what it was decided on."""
    rows = [_rule(pair, verdict, view.overview) for pair, verdict in _verdicts(view)]
    heads = ("Rule", "Pair", "Says", "Value", "Samples", "Bound", "Threshold", "Mode", "Why", "At")
    return _panel("rules", "Health rules", table("Last verdict of each rule", heads, rows))


def _verdicts(view: View) -> list[tuple[PairOverview, Verdict]]:
    found = [(pair, verdict) for pair in _pairs(view) for verdict in pair.verdicts]
    return sorted(found, key=lambda item: -item[1].verdict.rank)


def _rule(pair: PairOverview, verdict: Verdict, overview: Overview | None) -> tuple[object, ...]:
    at = moment(verdict.at)
    if overview and verdict.at and (overview.at - verdict.at).total_seconds() > 120:
        at = Markup("<span class=old>old: {}</span>").format(at)
    return (
        verdict.rule,
        pair.name,
        _VERDICTS[verdict.verdict],
        _number(verdict.value),
        count(verdict.n),
        _number(verdict.bound),
        _number(verdict.threshold),
        verdict.mode.value,
        verdict.message,
        at,
    )


def features(view: View) -> Markup:
    """Flags: what they are set to and how often they were on."""
    overview = view.overview
    rows = []
    for flag in overview.flags if overview else ():
        state = Markup("on for {}").format(percent(flag.percentage)) if flag.enabled else "off"
        if flag.killed_by:
            state = Markup('<b class="says wrong">✖ stopped by {}</b>').format(
                ", ".join(flag.killed_by)
            )
        act = Markup("")
        if view.person.may_act:
            act = button("Change…", "ask_flag", name=flag.name, label=f"Change {flag.name}")
        rows.append(
            (
                Markup('<code title="{}">{}</code>').format(flag.description, flag.name),
                state,
                count(flag.on),
                count(flag.off),
                rate(flag.share),
                act,
            )
        )
    heads = ("Flag", "Set to", "Answered on", "Answered off", "Adoption", "")
    window = min(overview.minutes, 1440) if overview else 60
    caption = f"Features in the last {window // 60} h"
    return _panel("features", "Feature adoption", table(caption, heads, rows))


def differences(view: View) -> Markup:
    """Writes that were not mirrored and rows that differ, with the way to both rows."""
    rows: list[tuple[object, ...]] = []
    for pair in _pairs(view):
        for failure in pair.failures:
            what = f"{failure.operation} on V{failure.written_side} not mirrored"
            why = f"{failure.error_code} {failure.message} ({failure.attempts} tries)"
            rows.append((*_key(view, pair.name, failure.key), what, why, moment(failure.at)))
        for mismatch in pair.mismatches:
            what = mismatch.kind.replace("_", " ")
            why = ", ".join(mismatch.columns)
            rows.append(
                (*_key(view, pair.name, mismatch.key), what, why, moment(mismatch.found_at))
            )
    heads = ("Row", "Pair", "What", "Why", "Found")
    total = sum(pair.open_failures + pair.open_mismatches for pair in _pairs(view))
    caption = f"Open mirror failures and mismatches: {total}, the newest {len(rows)} shown"
    return _panel("differences", "Rows that differ", table(caption, heads, rows))


def _key(view: View, pair: str, key: object) -> tuple[Markup, str]:
    text = json.dumps(key, ensure_ascii=False)
    if view.person.may_act:
        return button(text, "show_rows", kind="quiet", pair=pair, row=text), pair
    return Markup("<code>{}</code>").format(text), pair


def timeline(view: View) -> Markup:
    """Who did what, when and why, the newest first."""
    rows = []
    for event in view.overview.timeline if view.overview else ():
        changes = Markup("").join(
            _change(name, change) for name, change in event.changes.items() if name not in _QUIET
        )
        rows.append(
            (moment(event.at), event.actor, event.action, event.object, event.reason or "", changes)
        )
    heads = ("When", "Who", "What", "On", "Why", "Change")
    return _panel("timeline", "What happened", table("Changes, the newest first", heads, rows))


def _change(name: str, change: str) -> Markup:
    before, after = (_short(value) for value in json.loads(change))
    if before == after:
        return Markup("")
    return Markup("<div class=change>{}: <s>{}</s> → <b>{}</b></div>").format(name, before, after)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "nothing" if value in (None, "", []) else f"{text[:80]}…" if len(text) > 80 else text


def _pairs(view: View) -> tuple[PairOverview, ...]:
    return view.pairs


def _number(value: float | None) -> Markup:
    return (
        NONE if value is None else escape(f"{value:,.5g}" if abs(value) < 100 else f"{value:,.0f}")
    )


def _panel(name: str, title: str, body: Markup) -> Markup:
    return Markup(
        '<section class=panel aria-labelledby="h-{0}" data-panel="{0}"><h2 id="h-{0}">{1}</h2>{2}'
        "</section>"
    ).format(name, title, body)
