"""Where each pair stands, and what happens next."""

from markupsafe import Markup

from crossfade.core.contract import RolloutState, Stage
from crossfade.dashboard.panels.dialogs import lines
from crossfade.dashboard.panels.words import (
    NONE,
    button,
    count,
    millis,
    moment,
    percent,
    rate,
)
from crossfade.dashboard.view import View
from crossfade.flags.share import share_text
from crossfade.views.overview import Overview, PairOverview
from crossfade.views.signals import find_signals, next_step, worst


def render(view: View) -> Markup:
    """One card a pair."""
    if view.overview is None:
        return Markup("")
    cards = Markup("").join(_card(pair, view, view.overview) for pair in view.pairs)
    return Markup(
        "<section aria-labelledby=h-pairs><h2 id=h-pairs>Where each pair stands</h2>{}</section>"
    ).format(cards)


def _card(pair: PairOverview, view: View, overview: Overview) -> Markup:
    mine = tuple(s for s in find_signals(overview) if s.pair == pair.name)
    shown = view.choice.pair
    picked = Markup(" aria-current=true") if shown == pair.name else Markup("")
    return Markup(
        '<article class="pair {state}" aria-label="Pair {name}" data-pair="{name}"{picked}>'
        "<div><header><h3>{name}</h3>{charts}</header>{traffic}</div>"
        "<div><div class=where>{stages}{share}</div>{next}{actions}</div></article>"
    ).format(
        state=worst(mine).value,
        name=pair.name,
        picked=picked,
        charts=button("Charts", "show", kind="quiet", pair=pair.name, label=f"Charts {pair.name}"),
        stages=_stages(pair),
        share=_share(pair),
        traffic=_traffic(pair),
        next=_next(pair, overview),
        actions=_actions(pair) if view.person.may_act else "",
    )


def _stages(pair: PairOverview) -> Markup:
    items = Markup("").join(
        Markup('<li class="{}"{}>{}</li>').format(
            "done" if stage.rank < pair.stage.rank else "now" if stage is pair.stage else "later",
            Markup(" aria-current=step") if stage is pair.stage else "",
            stage.value,
        )
        for stage in Stage
    )
    return Markup('<ol class=stages aria-label="Stage">{}</ol>').format(items)


def _share(pair: PairOverview) -> Markup:
    if pair.backend is None:
        return Markup("<div class=share><b>{}</b></div>").format(share_text(None, pair.percentage))
    share = float(pair.backend.share_pct)
    ends = {0.0: Markup("all on V1"), 100.0: Markup("all on V2")}
    text = ends.get(share) or Markup("{} on V2").format(percent(pair.backend.share_pct))
    why = lines(cause.message for cause in pair.backend.causes if cause.code != "stage")
    return Markup(
        '<div class=share><div class=bar role=img aria-label="Cohort: {}">'
        '<span style="width:{:.3f}%"></span></div><b data-value="percentage">{}</b></div>{}'
    ).format(text.striptags(), share, text, why)


def _traffic(pair: PairOverview) -> Markup:
    rows = Markup("").join(
        Markup(
            '<tr class="v{0}"><th scope=row>V{0}</th><td data-value="requests-{0}">{1}</td>'
            '<td data-value="errors-{0}">{2}</td><td data-value="p95-{0}">{3}</td></tr>'
        ).format(version, count(b.requests), rate(b.error_rate), millis(b.p95_ms))
        for version, b in ((v, pair.traffic.backend(v)) for v in (1, 2))
    )
    return Markup(
        "<table class=mini><caption class=hidden>Last minutes of {}</caption><thead><tr>"
        "<td></td><th scope=col>requests</th>"
        "<th scope=col>errors</th><th scope=col>p95</th></tr></thead><tbody>{}</tbody></table>"
    ).format(pair.name, rows)


def _next(pair: PairOverview, overview: Overview) -> Markup:
    step = next_step(pair, overview)
    waits = Markup("").join(Markup("<li>{}</li>").format(wait) for wait in step.waits[:3])
    more = len(step.waits) - 3
    if more > 0:
        waits += Markup("<li>and {} more</li>").format(more)
    state = _plan(pair)
    how = Markup("waits for:<ul>{}</ul>").format(waits)
    if not step.waits:
        how = Markup("goes there by itself") if step.by_itself else Markup("ready when you are")
    return Markup("<div class=next><b>Next: {}</b>{} <span class=how>{}</span></div>").format(
        step.target, state, how
    )


def _plan(pair: PairOverview) -> Markup:
    view = pair.rollout
    if view is None or view.rollout is None or not view.is_active or view.plan is None:
        return Markup("")
    return Markup(' <span class="plan {0}">plan {1}, step {2} of {3}, {0}</span>').format(
        view.rollout.state.value.replace("_", " "), view.plan.name, view.reached, view.steps
    )


def _actions(pair: PairOverview) -> Markup:
    name = pair.name
    found = [
        button("Roll back…", "ask_rollback", kind="danger", pair=name),
        button("Cohort…", "ask_cohort", pair=name),
    ]
    view = pair.rollout
    if view is not None and view.rollout is not None and view.is_active:
        held = view.rollout.state is not RolloutState.RUNNING
        found.append(
            button("Resume…", "ask_resume", pair=name)
            if held
            else button("Hold…", "ask_hold", pair=name)
        )
        if view.next is not None and view.next.approval == "manual":
            found.append(button("Approve…", "ask_approve", pair=name))
        found.append(button("Abort…", "ask_abort", kind="danger", pair=name))
    if pair.latched_at:
        found.append(button("Re-arm…", "ask_rearm", pair=name))
    return Markup('<div class=actions role=group aria-label="Actions on {}">{}</div>').format(
        name, Markup("").join(found)
    )


def facts(view: View) -> Markup:
    """The smaller facts of the pair that the charts show."""
    if view.overview is None or not view.overview.pairs:
        return Markup("")
    pair = view.overview.pair(view.choice.pair) or view.pairs[0]
    rows = {
        "Tables": f"{pair.v1_table} → {pair.v2_table}",
        "Mirror": pair.mirror,
        "On this step since": moment(pair.step_started_at),
        "Newest request": moment(pair.newest_request_at),
        "Last clean verify": moment(pair.last_clean_verify_at),
        "Shadow reads": Markup("{} compared, {} differ").format(
            count(pair.shadow.compared), count(pair.shadow.mismatched)
        ),
        "V2 errors in a row": count(pair.streak),
        "Fallbacks to V1": count(pair.traffic.backend(2).fallbacks),
        "p99 V1, V2": Markup("{}, {}").format(
            millis(pair.traffic.backend(1).p99_ms), millis(pair.traffic.backend(2).p99_ms)
        ),
        "Batches wait because": view.overview.throttle or NONE,
    }
    body = Markup("").join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(k, v) for k, v in rows.items()
    )
    return Markup("<dl class=facts>{}</dl>").format(body)
