"""What a button does: the same calls as the command line, after the role has been checked."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

from markupsafe import Markup

from crossfade.core.contract import Event, Level
from crossfade.core.errors import CrossfadeError, InvalidValueError, UnauthorizedError
from crossfade.dashboard.effects import cohort_effects, flag_effects
from crossfade.dashboard.panels.dialogs import REASON, Dialog, lines, side_by_side
from crossfade.dashboard.view import Viewer
from crossfade.flags import kill_switches
from crossfade.flags.bucketing import parse_percentage
from crossfade.flags.cohort import Lists, cohort_changes
from crossfade.flags.model import Cohort, Flag, FlagState
from crossfade.flags.share import share_text
from crossfade.ports import Gateway
from crossfade.rollback.model import PlannedChange

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ActionDone:
    """What came of it: a dialog to open next, or a sentence."""

    said: str = ""
    dialog: Dialog | None = None


class Actions:
    """Carries out what people ask for.

    Args:
        gateway: the project, with the rights of who asks; the database checks them again.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[str, Callable[[Form], ActionDone]] = {
            name: getattr(self, f"_{name}") for name in ACTIONS
        }

    def run(self, person: Viewer, action: str, form: Form) -> ActionDone:
        """Do it, or say why not.

        Raises:
            CrossfadeError: refused; nothing was changed.
        """
        if action not in self._known:
            raise InvalidValueError(f'Unknown action "{action[:40]}"')
        if not person.may_act:
            raise UnauthorizedError(
                f"{person.name} may only look: the role is {person.role}",
                hint="An admin can change it: crossfade operator set-role",
            )
        return self._known[action](form)

    # Kill switches -------------------------------------------------------------------------------

    def _engage(self, form: Form) -> ActionDone:
        done = kill_switches.engage(self._gateway, form["name"], reason="held on the dashboard")
        state = "engaged" if done.changed else "was engaged already"
        late = ". A V2 write that began before may still commit: hold again to see"
        return ActionDone(
            f"{done.kill_switch.name} {state}, committed in {done.commit_ms:.0f} ms"
            + (late if done.in_flight else "")
        )

    def _ask_release(self, form: Form) -> ActionDone:
        name = form["name"]
        switch = next((s for s in self._state().kill_switches if s.name == name), None)
        if switch is None or not switch.engaged:
            return ActionDone(f"{name} is not engaged")
        why = f"engaged by {switch.engaged_by}: {switch.reason or 'no reason given'}"
        body = Markup("{}{}").format(lines([why]), REASON)
        return ActionDone(
            dialog=Dialog(f"Release {name}?", body, "release", "Release", data={"name": name})
        )

    def _release(self, form: Form) -> ActionDone:
        self._gateway.release_kill_switch(form["name"], reason=_reason(form))
        return ActionDone(f"{form['name']} released")

    # Going back ----------------------------------------------------------------------------------

    def _ask_rollback(self, form: Form) -> ActionDone:
        pair = form["pair"]
        plans = {level: self._plan(level, pair) for level in _LEVELS}
        choices = Markup("").join(
            Markup(
                '<label class=choice><input type=radio name=level value="{0}" required{1}> <b>{0}'
                "</b> {2}{3}</label>"
            ).format(
                level.value,
                Markup(" checked") if level is Level.COMPLETE else "",
                text,
                lines(plans[level] or ["nothing to do"]),
            )
            for level, text in _LEVELS.items()
        )
        body = Markup(
            "<p>One transaction; data is not touched and the mirror stays on. A snapshot is taken"
            " first.</p><fieldset><legend>How far?</legend>{}</fieldset>{}"
        ).format(choices, REASON)
        plan = json.dumps({level.value: plan for level, plan in plans.items()})
        return ActionDone(
            dialog=Dialog(
                f"Roll back {pair}?",
                body,
                "rollback",
                "Roll back",
                danger=True,
                data={"pair": pair, "plan": plan},
            )
        )

    def _rollback(self, form: Form) -> ActionDone:
        pair, level = form["pair"], Level(form["level"])
        reason = _reason(form)
        shown = json.loads(form["plan"])[level.value]
        if shown != self._plan(level, pair):
            again = self._ask_rollback(form)
            return replace(again, said="Something changed meanwhile: look at the plan again")
        done = self._gateway.rollback(level, pair, reason=reason, automatic=False, dry_run=False)
        if done.rollback is None:
            return ActionDone(f"{pair} was there already; nothing changed")
        with suppress(CrossfadeError):  # a hint: it is committed, and edge functions also poll
            self._gateway.broadcast(
                Event.ROLLBACK,
                {"flags_version": done.flags_version, "pair": pair, "level": level.value},
            )
        return ActionDone(f"{level.value} rollback of {pair} is done (snapshot {done.snapshot})")

    def _plan(self, level: Level, pair: str) -> list[str]:
        plan = self._gateway.rollback(level, pair, reason="dry run", automatic=False, dry_run=True)
        return [*(_sentence(change) for change in plan.plan), *plan.also]

    def _ask_rearm(self, form: Form) -> ActionDone:
        why = "The rollout may go forward again. Nothing else changes."
        return self._with_reason(form, "rearm", f"Re-arm {form['pair']}?", "Re-arm", why)

    def _rearm(self, form: Form) -> ActionDone:
        self._gateway.rearm(form["pair"], reason=_reason(form))
        return ActionDone(f"{form['pair']} is armed again")

    # Rollouts ------------------------------------------------------------------------------------

    def _ask_hold(self, form: Form) -> ActionDone:
        why = "Nothing advances until somebody resumes. The health rules go on."
        return self._with_reason(form, "hold", f"Hold the rollout of {form['pair']}?", "Hold", why)

    def _ask_resume(self, form: Form) -> ActionDone:
        title = f"Resume the rollout of {form['pair']}?"
        why = "The plan goes on as soon as its gates pass."
        return self._with_reason(form, "resume", title, "Resume", why)

    def _ask_approve(self, form: Form) -> ActionDone:
        view = self._gateway.rollout_status(form["pair"])
        step = view.next.name if view.next else ""
        why = f"Step {step} begins as soon as nothing else stands against it."
        title = f"Approve step {step} of {form['pair']}?"
        asked = self._with_reason(form, "approve", title, "Approve", why)
        assert asked.dialog
        data = {**asked.dialog.data, "step": step}
        return ActionDone(dialog=replace(asked.dialog, data=data))

    def _ask_abort(self, form: Form) -> ActionDone:
        pair = form["pair"]
        plan = self._plan(Level.COMPLETE, pair)
        why = ["The plan ends, and everybody goes back to V1 in one transaction:", *plan]
        asked = self._with_reason(form, "abort", f"Abort the rollout of {pair}?", "Abort", *why)
        assert asked.dialog
        return ActionDone(dialog=replace(asked.dialog, danger=True))

    def _hold(self, form: Form) -> ActionDone:
        return self._control(form, "hold", "is held")

    def _resume(self, form: Form) -> ActionDone:
        return self._control(form, "resume", "goes on")

    def _approve(self, form: Form) -> ActionDone:
        return self._control(form, "approve", f"may take step {form['step']}", form["step"])

    def _abort(self, form: Form) -> ActionDone:
        return self._control(form, "abort", "is aborted")

    def _control(self, form: Form, action: str, said: str, step: str | None = None) -> ActionDone:
        self._gateway.control_rollout(form["pair"], action, reason=_reason(form), step=step)
        return ActionDone(f"The rollout of {form['pair']} {said}")

    def _with_reason(
        self, form: Form, action: str, title: str, submit: str, *why: str
    ) -> ActionDone:
        body = Markup("{}{}").format(lines(why), REASON)
        return ActionDone(dialog=Dialog(title, body, action, submit, data={"pair": form["pair"]}))

    # Cohorts and flags: a form, then who is affected, then the change ----------------------------

    def _ask_cohort(self, form: Form) -> ActionDone:
        pair = form["pair"]
        cohort = self._cohort(pair)
        body = Markup(
            "<label>Share of users on V2, per cent<input name=percentage inputmode=decimal required"
            ' value="{}"></label><label>Always V2, one user id a line'
            "<textarea name=allow rows=2>{}</textarea></label><label>Never V2, one user id a line"
            "<textarea name=deny rows=2>{}</textarea></label>{}"
        ).format(
            f"{cohort.percentage.normalize():f}",
            "\n".join(cohort.enabled_user_ids),
            "\n".join(cohort.denied_user_ids),
            _WHO,
        )
        title = f"Who is served by V2 of {pair}?"
        return ActionDone(
            dialog=Dialog(
                title, body, "preview_cohort", "Show who is affected", data={"pair": pair}
            )
        )

    def _preview_cohort(self, form: Form) -> ActionDone:
        state, after = self._state(), self._wanted(form)
        effects = cohort_effects(state, form["pair"], after, form.get("who", "").strip())
        if not cohort_changes_of(self._cohort(form["pair"]), after):
            effects = ["Nothing changes", *effects]
        body = Markup("{}{}").format(lines(effects), REASON)
        data = {name: form.get(name, "") for name in ("pair", "percentage", "allow", "deny")}
        title = f"Change the cohort of {form['pair']}?"
        return ActionDone(dialog=Dialog(title, body, "set_cohort", "Change it", data=data))

    def _set_cohort(self, form: Form) -> ActionDone:
        reason = _reason(form)
        changes = cohort_changes_of(self._cohort(form["pair"]), self._wanted(form))
        if not changes:
            return ActionDone("The cohort is already like that")
        done = self._gateway.set_cohort(form["pair"], changes, reason=reason)
        return ActionDone(f"{form['pair']}: {share_text(done.backend, done.cohort.percentage)}")

    def _cohort(self, pair: str) -> Cohort:
        pairs = self._state().pairs
        if pair not in pairs:
            raise InvalidValueError(f'Unknown pair "{pair}"')
        return pairs[pair].cohort or Cohort(Decimal(0), pair)

    def _wanted(self, form: Form) -> Cohort:
        return replace(
            self._cohort(form["pair"]),
            percentage=parse_percentage(form["percentage"].strip()),
            enabled_user_ids=_ids(form.get("allow", "")),
            denied_user_ids=_ids(form.get("deny", "")),
        )

    def _ask_flag(self, form: Form) -> ActionDone:
        flag = self._flag(form["name"])
        share = "" if flag.percentage is None else f"{flag.percentage.normalize():f}"
        body = Markup(
            "<p>{}</p><label class=check><input type=checkbox name=enabled{}> Enabled</label>"
            "<label>Share of users, per cent; empty: the default decides<input name=percentage"
            ' inputmode=decimal value="{}"></label>{}'
        ).format(flag.description or "", Markup(" checked") if flag.enabled else "", share, _WHO)
        data = {"name": flag.name}
        return ActionDone(
            dialog=Dialog(
                f"Change {flag.name}", body, "preview_flag", "Show who is affected", data=data
            )
        )

    def _preview_flag(self, form: Form) -> ActionDone:
        state, after = self._state(), self._changed(form)
        effects = flag_effects(state, after, form.get("who", "").strip()) or ["Nothing changes"]
        body = Markup("{}{}").format(lines(effects), REASON)
        data = {name: form.get(name, "") for name in ("name", "percentage", "enabled")}
        title = f"Change {after.name}?"
        return ActionDone(dialog=Dialog(title, body, "set_flag", "Change it", data=data))

    def _set_flag(self, form: Form) -> ActionDone:
        reason = _reason(form)
        before, after = self._flag(form["name"]), self._changed(form)
        changes = {
            name: getattr(after, name)
            for name in ("enabled", "percentage")
            if getattr(after, name) != getattr(before, name)
        }
        if not changes:
            return ActionDone(f"{after.name} is already like that")
        self._gateway.set_flag(after.name, changes, reason=reason)
        return ActionDone(f"{after.name} changed")

    def _changed(self, form: Form) -> Flag:
        text = form.get("percentage", "").strip()
        return replace(
            self._flag(form["name"]),
            enabled=form.get("enabled", "") == "on",
            percentage=parse_percentage(text) if text else None,
        )

    def _flag(self, name: str) -> Flag:
        flags = self._state().flags
        if name not in flags:
            raise InvalidValueError(f'Unknown flag "{name}"')
        return flags[name]

    # Rows ----------------------------------------------------------------------------------------

    def _show_rows(self, form: Form) -> ActionDone:
        found = self._gateway.show_rows(form["pair"], json.loads(form["row"]))
        rows = [None if text is None else json.loads(text) for text in (found.v1, found.v2)]
        title = f"Row {form['row']} of {form['pair']}"
        return ActionDone(dialog=Dialog(title, side_by_side(rows[0], rows[1])))

    def _state(self) -> FlagState:
        return self._gateway.read_flags()


def cohort_changes_of(before: Cohort, after: Cohort) -> dict[str, Decimal | tuple[str, ...]]:
    """The columns of a cohort that a form changes."""
    removed = {*before.enabled_user_ids, *before.denied_user_ids} - {
        *after.enabled_user_ids,
        *after.denied_user_ids,
    }
    lists = Lists(after.enabled_user_ids, after.denied_user_ids, tuple(sorted(removed)))
    return dict(cohort_changes(before, percentage=after.percentage, users=lists))  # type: ignore[arg-type]


def _sentence(change: PlannedChange) -> str:
    """A line of a plan for people: what, then the values before and after."""
    before, after = (json.loads(text or "{}") for text in (change.before, change.after))
    values = ", ".join(
        f"{name} {json.dumps(before.get(name))} → {json.dumps(value)}"
        for name, value in after.items()
    )
    return f"{change.action.replace('_', ' ')} of {change.object}: {values or 'now'}"


def _reason(form: Form) -> str:
    text = " ".join(form.get("reason", "").split())  # a reason is one line
    if not text:
        raise InvalidValueError("Nothing was changed: a reason is needed")
    return text[:500]


def _ids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


_WHO = Markup("<label>Try somebody: a user id, optional<input name=who></label>")
_LEVELS = {
    Level.PARTIAL: "the step before",
    Level.COMPLETE: "everybody to V1",
    Level.EMERGENCY: "everybody to V1, and the emergency stop",
}
ACTIONS = (
    *("engage", "ask_release", "release", "ask_rollback", "rollback", "ask_rearm", "rearm"),
    *("ask_hold", "hold", "ask_resume", "resume", "ask_approve", "approve", "ask_abort", "abort"),
    *("ask_cohort", "preview_cohort", "set_cohort", "ask_flag", "preview_flag", "set_flag"),
    "show_rows",
)
"""Everything a page may ask for; each is a method above."""
