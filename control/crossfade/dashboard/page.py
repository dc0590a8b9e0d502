"""The page: puts panels into elements and keeps them current. The only module that draws."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup
from nicegui import run, ui
from nicegui.events import GenericEventArguments

from crossfade.core.errors import CrossfadeError
from crossfade.dashboard import charts
from crossfade.dashboard.actions import Actions
from crossfade.dashboard.feed import Feed
from crossfade.dashboard.layout import CHARTS, LAYOUT, Box, as_html
from crossfade.dashboard.panels import dialogs, frame, headline, pairs, switches, tables
from crossfade.dashboard.panels.dialogs import Dialog
from crossfade.dashboard.sessions import BrowserSession, Sessions
from crossfade.dashboard.view import RANGES, Selection, View

ASSETS: Final = Path(__file__).parent / "assets"
_PANELS: Final[dict[str, Callable[[View], Markup]]] = {
    "top": frame.top,
    "headline": headline.render,
    "pairs": pairs.render,
    "switches": switches.render,
    "charts-head": frame.charts_head,
    "facts": pairs.facts,
    "runs": tables.runs,
    "rules": tables.rules,
    "differences": tables.differences,
    "features": tables.features,
    "timeline": tables.timeline,
}
_NOTICE_S: Final = 12.0


@dataclass(slots=True)
class Door:
    """What one signed-in person reaches: the project with their rights."""

    url: str
    feed: Feed
    actions: Actions
    close: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Page:
    """One open page. Everything a browser sends is checked again here."""

    door: Door
    session: BrowserSession
    sessions: Sessions
    refresh_s: float = 1.0
    choice: Selection = field(default_factory=Selection)
    html: dict[str, ui.html] = field(default_factory=dict)
    plots: dict[str, ui.echart] = field(default_factory=dict)
    frames: dict[str, ui.element] = field(default_factory=dict)
    shown: dict[str, Markup] = field(default_factory=dict)
    plotted: dict[str, str] = field(default_factory=dict)
    dialog: Dialog | None = None
    dialogs: int = 0
    notice: Markup = field(default_factory=Markup)
    notice_until: float = 0.0
    beats: int = 0

    def build(self) -> None:
        """Create the elements, and send with them a page that can be read before any script ran."""
        ui.add_head_html(f"<style>{(ASSETS / 'page.css').read_text('utf-8')}</style>")
        self._place(LAYOUT)
        ui.on("crossfade", self.on_event)
        self.refresh()
        ui.add_body_html(
            f"<main id=early>{as_html(LAYOUT, self.shown)}</main>"
            f"<script>{(ASSETS / 'page.js').read_text('utf-8')}</script>"
        )
        ui.timer(self.refresh_s, self.refresh)
        # Their script is larger than all others together, and no button shall wait for it.
        ui.context.client.on_connect(lambda: self._plot(self.view()))

    def _place(self, box: Box) -> None:
        if box.name and box.name not in CHARTS:
            self.html[box.name] = ui.html("", sanitize=False, tag=box.tag)
        element = self.html.get(box.name) or ui.element(box.tag)
        element.classes(box.classes).props(str(box.attributes))
        if box.name in CHARTS:
            self.frames[box.name] = element
        with element:
            for part in box.inside:
                self._place(part)

    def _plot(self, view: View) -> None:
        """Draw the charts, and again what changes in them."""
        for name, options in self._charts(view).items():
            text = json.dumps(options)
            if self.plotted.get(name) == text:
                continue
            self.plotted[name] = text
            if name in self.plots:
                chart = self.plots[name]
                chart.options.clear()
                chart.options.update(options)
                chart.update()
                continue
            with self.frames[name]:
                label = f"{options['title']['text']}, numbers in the tables"
                chart = ui.echart(options, renderer="svg").classes("plot")
                self.plots[name] = chart.props(f'role=img aria-label="{label}"')

    def view(self) -> View:
        """This moment, as the panels see it."""
        feed = self.door.feed
        reading, series = feed.look((self._pair(), self.choice.minutes))
        return View(
            url=self.door.url,
            person=self.session.person,
            choice=replace(self.choice, pair=self._pair()),
            overview=reading.overview,
            series=series,
            age_s=feed.age_s(reading) if reading.overview else 0.0,
            error=reading.error,
            stale_s=feed.stale_s,
        )

    def _pair(self) -> str:
        reading = self.door.feed.reading
        shown = View(self.door.url, self.session.person, overview=reading.overview)
        names = [pair.name for pair in shown.pairs]
        if self.choice.pair in names:
            return self.choice.pair
        return names[0] if names else ""

    def refresh(self) -> None:
        """Send what has changed since the last time."""
        if not self.sessions.is_open(self.session):
            ui.navigate.to("/sign-in?ended=1")
            return
        view = self.view()
        for name, render in _PANELS.items():
            self._put(name, render(view))
        if self.plots:
            self._plot(view)
        if self.notice and time.monotonic() > self.notice_until:
            self.notice = Markup("")
        self._put("notice", self.notice)
        self.beats += 1
        self._put("beat", frame.beat(view, self.beats, headline.title(view)))

    def _put(self, name: str, content: Markup) -> None:
        if self.shown.get(name) != content:
            self.shown[name] = content
            self.html[name].set_content(content)

    def _charts(self, view: View) -> dict[str, charts.Options]:
        settings = view.overview.settings if view.overview else {}
        # Not the last pair's lines under the next one's name.
        series = view.series if view.series and view.series.pair == view.choice.pair else None

        def number(name: str) -> float | None:
            value = settings.get(name)
            return float(value) if isinstance(value, int | float) else None

        return {
            "share": charts.share(series),
            "errors": charts.errors(
                series, warn_rate=number("r2_error_rate"), bad_rate=number("r1_error_rate")
            ),
            "latency": charts.latency(
                series, bad_ms=number("r4_p95_ms"), ratio=number("r5_p95_ratio")
            ),
        }

    # What people do ------------------------------------------------------------------------------

    async def on_event(self, event: GenericEventArguments) -> None:
        """A button, a held button, or a form. Everything in it may be forged."""
        asked: Any = event.args
        if not isinstance(asked, dict) or not isinstance(asked.get("action"), str):
            return
        if not self.sessions.is_open(self.session):
            ui.navigate.to("/sign-in?ended=1")
            return
        given = asked.get("form")
        form = (
            {str(k): str(v)[:20_000] for k, v in given.items()} if isinstance(given, dict) else {}
        )
        action: str = asked["action"]
        if action == "close":
            self._open(None)
        elif action == "show":
            self.choice = replace(self.choice, pair=form.get("pair", ""))
        elif action == "range":
            minutes = int(form.get("minutes", "60")) if form.get("minutes", "").isdigit() else 60
            self.choice = replace(self.choice, minutes=minutes if minutes in RANGES else 60)
        else:
            await self._act(action, form)
        self.refresh()

    async def _act(self, action: str, form: dict[str, str]) -> None:
        try:
            done = await run.io_bound(self.door.actions.run, self.session.person, action, form)
        except CrossfadeError as error:
            self._say(Markup("<span class=refused>{}</span>").format(error.line()))
            # The form again, so that nothing typed is lost to a missing word.
            self._open(self.dialog)
            return
        except (KeyError, ValueError) as error:
            self._say(Markup("<span class=refused>Not understood: {}</span>").format(error))
            self._open(None)
            return
        if done is None:  # NiceGUI stops
            return
        self._open(done.dialog)
        if done.said:
            self._say(Markup("{}").format(done.said))
        self.door.feed.hurry()
        await asyncio.sleep(0.3)

    def _open(self, dialog: Dialog | None) -> None:
        self.dialog = dialog
        self.dialogs += 1
        # A number, so that the same dialog opens a second time.
        content = dialogs.render(dialog)
        if dialog is not None:
            content += Markup("<span hidden>{}</span>").format(self.dialogs)
        self._put("dialog", content)

    def _say(self, text: Markup) -> None:
        self.notice, self.notice_until = text, time.monotonic() + _NOTICE_S
