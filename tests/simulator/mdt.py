"""A simulated MDT: the records and their coordinator, and the server that it happens to be mounted on."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Final

from .coordinator import ENABLED, INIT, STOPPED, STOPPING, Coordinator
from .mds import SimulatedMds
from .records import ARCHIVE, REMOVE, RESTORE

START_TIME: Final = 1_762_800_000.0
"""2025-11-10 18:40 UTC: simulated time has nothing to do with the time of the test run."""


class SimulatedMdt(Coordinator):
    """An MDT, whose files show what happened only after `write`.

    The records outlive the server: `unmount`, then `mount` on another one is a failover. What the coordinator holds in
    memory (copytools, running requests, the last cookie) is lost on the way, as it is in Lustre. An MDT that was never
    mounted lives without files, so that a test of pure code needs none.
    """

    def __init__(
        self,
        name: str,
        seed: int = 0,
        start_time: float = START_TIME,
        *,
        grace_delay_s: int = 60,
        loop_period_s: int = 10,
        active_request_timeout_s: int = 3600,
        max_requests: int = 1000,
        deletions_per_loop: int = 10_000,
        compound_ids: bool = False,
    ) -> None:
        """`compound_ids` is for Lustre before 2.12, which still printed a real one; the rest is in `Coordinator`."""
        match = re.fullmatch(r"[A-Za-z0-9_-]{1,8}-MDT([0-9a-f]{4})", name)
        if match is None:
            raise ValueError(f"{name!r} is no MDT name: wanted <fsname>-MDT<4 hex digits>")
        super().__init__(
            random.Random(f"{seed}/{name}"),
            start_time,
            first_sequence=0x200000401 + int(match[1], 16) * 0x40000000,
            grace_delay_s=grace_delay_s,
            loop_period_s=loop_period_s,
            active_request_timeout_s=active_request_timeout_s,
            max_requests=max_requests,
            deletions_per_loop=deletions_per_loop,
            compound_ids=compound_ids,
        )
        self.name = name
        self.seed = seed
        self._mds: SimulatedMds | None = None

    def mount(self, mds: SimulatedMds) -> None:
        """Appear on a server and show the listing."""
        self.attach(mds)
        self.set_hsm_control(ENABLED)
        self.write()

    def attach(self, mds: SimulatedMds) -> None:
        """The first step of a mount: the folders are there and `hsm_control` says init, but no listing yet."""
        if self._mds is not None:
            raise RuntimeError(f"{self.name} is mounted already, on {self._mds.root}")
        mds.add_folders(self.name)
        self._mds = mds
        self.set_hsm_control(INIT)

    def unmount(self) -> None:
        """Leave the server. A test that wants to stop half way takes the steps itself."""
        self.set_hsm_control(STOPPING)
        self.set_hsm_control(STOPPED)
        self.detach()

    def detach(self) -> None:
        """The last step of an unmount: everything goes. Without the steps before it, a crash of the server."""
        self._mounted_on().remove_folders(self.name)
        self._mds = None
        self.set_hsm_control(STOPPED)
        self._llog.close()
        self._last_cookie = 0

    def set_hsm_control(self, state: str) -> None:
        """Put the coordinator in a state, and show it at once; the listing stays as it was written."""
        super().set_hsm_control(state)
        if self._mds is not None:
            self._mds.write_hsm_control(self.name, state)

    def write(self) -> None:
        """Replace `actions` and the small files beside it."""
        mds = self._mounted_on()
        active = Counter(record.action for record in self._copytools.active())
        mds.write_agents(self.name, self._copytools.lines())
        mds.write_tunables(
            self.name,
            {
                "grace_delay": self.grace_delay_s,
                "loop_period": self.loop_period_s,
                "active_request_timeout": self.active_request_timeout_s,
                "max_requests": self.max_requests,
                "archive_count": active[ARCHIVE],
                "restore_count": active[RESTORE],
                "remove_count": active[REMOVE],
            },
        )
        mds.write_actions(self.name, (record.rendered() for record in self._llog))

    def _mounted_on(self) -> SimulatedMds:
        if self._mds is None:
            raise RuntimeError(f"{self.name} is not mounted")
        return self._mds
