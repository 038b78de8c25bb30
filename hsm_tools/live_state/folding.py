"""What a process beside another one does: it folds the streams that it is told to, and tells what came of it."""

from __future__ import annotations

import math
import os
import threading
import time
from queue import SimpleQueue
from typing import Any

from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError, unexpected
from hsm_shipper.process.gc_tuning import relax_collector
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.live_state.beside import Answer, Order, ReadingFailure
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.reader.server import Server
from hsm_tools.reader.step_runner import StepRunner

_PROGRESS_INTERVAL_S = 0.1


def serve(connection: Any) -> None:
    """Fold one stream after the other, until whoever asks for them is gone."""
    relax_collector()
    config: Config = connection.recv()
    orders: SimpleQueue[Order] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, orders), daemon=True).start()
    folding = Folding(config, connection)
    while True:
        connection.send(folding.answer(orders.get()))


def _receive(connection: Any, orders: SimpleQueue[Order]) -> None:
    """In a thread of its own: so it is noticed also while Redis does not answer that nobody waits any longer."""
    try:
        while True:
            orders.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


class Folding:
    """Folds streams of the server that a configuration names."""

    def __init__(self, config: Config, connection: Any) -> None:
        self._config = config
        self._connection = connection
        self._server: Server | None = None
        self._runner: StepRunner | None = None

    def answer(self, order: Order) -> Answer:
        """What comes of it; how far it is meanwhile is told by the connection."""
        try:
            return self._folded(order)
        except HsmError as error:
            return ReadingFailure(type(error), error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - whoever asked says it
            fault = unexpected(f"reading stream {order.key} failed", error)
            return ReadingFailure(HsmError, fault.message, fault.hint)

    def _folded(self, order: Order) -> Answer:
        if self._server is None or self._runner is None:
            self._server = Server.from_config(self._config)
            self._runner = self._server.runner(math.inf)
        due_s = 0.0

        def on_page(entries: int) -> None:
            nonlocal due_s
            now_s = time.monotonic()
            if now_s >= due_s:
                due_s = now_s + _PROGRESS_INTERVAL_S
                self._connection.send(stream.entries + entries)

        reader = ActionStream(self._runner.client_of(order.key), order.key, self._server.address)
        stream = LiveStream(order.mdt, reader, order.tally, on_page)
        stream.follow(order.end)
        return stream.folded()
