"""Work that waits for Redis, off the thread that draws."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError, unexpected
from hsm_tools.dashboard.data.lookup import Lookup

logger = logging.getLogger(__name__)

T = TypeVar("T")
Deliver = Callable[[Callable[[], None]], None]


class LookupThread:
    """One thread with a `Lookup`, which does one thing after another; nobody waits for its end.

    `deliver` takes what is to be called with a result, to call it where drawing is allowed.
    """

    def __init__(self, config: Config, deliver: Deliver) -> None:
        self._config = config
        self._deliver = deliver
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lookup: Lookup | None = None
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[Lookup], T], done: Callable[[T], None], failed: Callable[[HsmError], None]) -> None:
        """Have `work` done, and `done` called with what it returns, or `failed` with why not."""

        def order() -> None:
            try:
                result = work(self._connected())
            except HsmError as error:
                self._deliver(partial(failed, error))
            except Exception as error:  # noqa: BLE001 - the thread goes on, with another connection
                self._lookup = None
                found = unexpected("asking Redis failed", error)
                logger.error("%s", found)
                self._deliver(partial(failed, found))
            else:
                self._deliver(partial(done, result))

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="looks up actions", daemon=True)
            self._thread.start()
        self._orders.put(order)

    def _run(self) -> None:
        while True:
            self._orders.get()()

    def _connected(self) -> Lookup:
        if self._lookup is None:
            self._lookup = Lookup(self._config)
        return self._lookup
