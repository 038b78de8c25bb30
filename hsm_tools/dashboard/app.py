"""The application: pages on top of one another, drawn again whenever there is something new."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar

# Read when Textual is imported. No key here needs that protocol, and a terminal is left in it by a `kill -9`.
os.environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")

from textual.app import App
from textual.binding import Binding, BindingType

from hsm_shipper.config import Config
from hsm_shipper.process.stop_signal import handled
from hsm_shipper.process.termination import Terminated
from hsm_tools.dashboard.data.files import Files
from hsm_tools.dashboard.data.lookup_thread import LookupThread
from hsm_tools.dashboard.data.update_thread import UpdateThread
from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.help import Help
from hsm_tools.dashboard.screens.mdts import Mdts
from hsm_tools.dashboard.screens.overview import Overview
from hsm_tools.dashboard.screens.page import Page

_TICK_S = 0.05
_DRAW_INTERVAL_S = 0.25
# Drawing takes time from the replay, for whose end everybody waits.
_PROGRESS_INTERVAL_S = 0.75
_CLOCK_S = 1.0
INTERVALS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Dashboard(App[None]):
    """The interactive `hsm-action-top`."""

    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: ansi_default; color: ansi_default; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False),
        Binding("h,question_mark,f1", "help", show=False),
        Binding("space", "pause", show=False),
        Binding("m", "mdts", show=False),
        Binding("r", "look_now", show=False),
        Binding("plus,equals_sign", "slower", show=False),
        Binding("minus", "faster", show=False),
    ]

    def __init__(self, config: Config, update_thread: UpdateThread, mounts: dict[str, str] | None) -> None:
        super().__init__(ansi_color=True)
        self.update_thread = update_thread
        self.lookup_thread = LookupThread(config, self.deliver)
        self.files = Files(mounts, update_thread.updater.remark)
        self.ascii_only = os.environ.get("TERM") == "linux" or not _is_unicode()
        self.ended_by: int | None = None
        """The signal that has ended it."""
        self._inbox: deque[Callable[[], None]] = deque()
        self._paused_at: float | None = None
        self._drawn: StreamsView | None = None
        self._drawn_at_s = 0.0
        self._state_of: object = None

    def deliver(self, call: Callable[[], None]) -> None:
        """Have `call` made where drawing is allowed; from any thread."""
        self._inbox.append(call)

    def on_mount(self) -> None:
        """As Textual says."""
        self.push_screen(Overview())
        self.set_interval(_TICK_S, self._tick)

    def status(self, view: StreamsView, now_s: float) -> str:
        """What the viewer does."""
        if self._paused_at is not None:
            at = time.strftime("%H:%M:%S", time.localtime(self._paused_at))
            return f"Paused at {at}; Space goes on"
        return view.status(now_s)

    def _tick(self) -> None:
        if not self.is_headless and not _terminal_is_there():
            self.die_without_terminal(signal.SIGHUP)
        if self.update_thread.failure is not None or self.ended_by is not None:
            self.exit()
            return
        page = self.screen_stack[-1] if self.screen_stack else None
        if not isinstance(page, Page) or not page.is_complete:  # at the beginning and at the end there is none
            return
        while self._inbox:
            self._inbox.popleft()()
        view = self.update_thread.updater.view
        if view.state is not self._state_of:
            self._state_of = view.state
            page.news()
        elif not self._is_due(view):
            return
        is_first = self._drawn is None
        self._drawn, self._drawn_at_s = view, time.monotonic()
        page.redraw()
        if is_first:
            # Not before: two threads that both compute take longer than one after the other, and the screen was empty.
            self.update_thread.start()

    def _is_due(self, view: StreamsView) -> bool:
        since_s = time.monotonic() - self._drawn_at_s
        if since_s < (_DRAW_INTERVAL_S if view.progress is None else _PROGRESS_INTERVAL_S):
            return False
        return since_s >= _CLOCK_S or view is not self._drawn or self.files.take_changed()

    def go_back(self) -> None:
        """To the page before; the first one stays."""
        if len(self.screen_stack) > 2:  # below the first page is Textual's own
            self.pop_screen()
            self._drawn_at_s = 0.0

    def die_without_terminal(self, number: int) -> None:
        """End by that signal as it is: writing to a terminal that is gone would wait for ever."""
        self.files.close()
        Terminated(number).die()

    async def action_quit(self) -> None:
        """Quit at once, whatever is going on."""
        self.exit()

    def action_interrupt(self) -> None:
        """End as by Ctrl+C anywhere else."""
        self.ended_by = signal.SIGINT

    def action_help(self) -> None:
        """All keys."""
        self._show_once(Help)

    def action_mdts(self) -> None:
        """The MDTs."""
        self._show_once(Mdts)

    def action_pause(self) -> None:
        """Look no more, or go on."""
        self.update_thread.paused = not self.update_thread.paused
        self._paused_at = time.time() if self.update_thread.paused else None
        self._redraw()

    def action_look_now(self) -> None:
        """Look before it is due."""
        self.update_thread.look_now()

    def action_slower(self) -> None:
        """Look less often."""
        self._look_every(min((s for s in INTERVALS_S if s > self.update_thread.interval_s), default=INTERVALS_S[-1]))

    def action_faster(self) -> None:
        """Look more often."""
        self._look_every(max((s for s in INTERVALS_S if s < self.update_thread.interval_s), default=INTERVALS_S[0]))

    def _look_every(self, seconds: float) -> None:
        self.update_thread.interval_s = seconds
        self._redraw()

    def _show_once(self, page: type[Page]) -> None:
        if not isinstance(self.screen, page):
            self.push_screen(page())

    def _redraw(self) -> None:
        self._drawn_at_s = 0.0


def run(config: Config, update_thread: UpdateThread, mounts: dict[str, str] | None) -> int:
    """Show the dashboard until it is quit; returns the exit code, or raises what ended it."""
    app = Dashboard(config, update_thread, mounts)
    with _signals(app):
        try:
            app.run(mouse=False)
        finally:
            app.files.close()
    if update_thread.failure is not None:
        raise update_thread.failure
    if app.ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if app.ended_by is not None:
        raise Terminated(app.ended_by)
    return app.return_code or 0


def _signals(app: Dashboard) -> contextlib.AbstractContextManager[None]:
    """Signals that end the process end the dashboard first, so that the terminal is as it was before."""

    def end(number: int, _frame: object) -> None:
        app.ended_by = number
        if not _terminal_is_there():
            app.die_without_terminal(number)

    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return handled([number for number in heard if signal.getsignal(number) != signal.SIG_IGN], end)


def _terminal_is_there() -> bool:
    if sys.__stdin__ is None:
        return False
    try:
        termios.tcgetattr(sys.__stdin__)
    except termios.error:
        return False
    return True


def _is_unicode() -> bool:
    stream = sys.__stderr__
    return stream is not None and (stream.encoding or "").lower().replace("-", "") == "utf8"
