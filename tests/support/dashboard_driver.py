"""Driving the dashboard of `hsm-action-top` by its keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from textual.pilot import Pilot

from hsm_tools.command.filters import ActionFilter
from hsm_tools.dashboard.app import Dashboard
from hsm_tools.dashboard.data.update_thread import UpdateThread
from hsm_tools.dashboard.data.view_updater import ViewUpdater
from hsm_tools.dashboard.screens.page import Page
from hsm_tools.dashboard.widgets.lines import plain
from tests.support.dashboards import Streams
from tests.support.waiting import DEADLINE_S

A, B = "elm-MDT0000", "elm-MDT0001"


class Driver:
    """Presses keys, and reads what is shown."""

    def __init__(self, app: Dashboard, pilot: Pilot[None]) -> None:
        self.app = app
        self._pilot = pilot

    @property
    def page(self) -> Page:
        page = self.app.screen
        assert isinstance(page, Page)
        return page

    @property
    def text(self) -> str:
        """All that is shown, and the rows out of sight too."""
        page = self.page
        return "\n".join((page.above.text, plain(page.grid.heading), page.grid.text, page.below.text))

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the table."""
        return [[cell.strip() for cell in row.split(self.page.SEPARATOR)] for row in self.page.grid.text.splitlines()]

    async def press(self, *keys: str) -> None:
        """Press keys, once something is there to take them."""
        await self.until(lambda: self.app.focused is not None)
        await self._pilot.press(*keys)

    async def until(self, check: Callable[[], Any]) -> Any:
        """Wait until something is true."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not (answer := isinstance(self.app.screen, Page) and check()):
            assert time.monotonic() < deadline_s, f"in vain, on:\n{self.text}"
            await self._pilot.pause(0.02)
        return answer

    async def shows(self, *texts: str) -> str:
        """Wait until all of `texts` are shown."""
        return str(await self.until(lambda: all(text in self.text for text in texts) and self.text))


Scenario = Callable[[Driver], Awaitable[None]]


@contextmanager
def update_thread_of(streams: Streams, **filters: list[str]) -> Iterator[UpdateThread]:
    update_thread = UpdateThread(ViewUpdater(streams.config, ActionFilter(**filters)), 0.1)
    try:
        yield update_thread
    finally:
        update_thread.close()
        update_thread.updater.close()


def drive(
    streams: Streams,
    scenario: Scenario,
    size: tuple[int, int] = (80, 24),
    mounts: dict[str, str] | None = None,
    **filters: list[str],
) -> None:
    """Run the dashboard and the scenario on it."""

    async def run(update_thread: UpdateThread) -> None:
        app = Dashboard(streams.config, update_thread, mounts)
        try:
            async with app.run_test(size=size) as pilot:
                await scenario(Driver(app, pilot))
        finally:
            app.files.close()

    with update_thread_of(streams, **filters) as update_thread:
        asyncio.run(run(update_thread))
        if update_thread.failure is not None:
            raise update_thread.failure
