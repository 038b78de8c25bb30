"""`hsm-stream-stats --listen`: serves the metrics to Prometheus, and keeps them up to date meanwhile.

A thread follows the streams and makes the metrics; a scrape is given those that were made last, and waits for nothing.
Counters count from the start of the program, whatever the streams hold by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import NoReturn

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hsm_shipper.config import Config
from hsm_shipper.errors import CalledOff, HsmError, StreamError
from hsm_tools.command.filters import ActionFilter
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.summary import Summaries
from hsm_tools.statistics.metrics import MetricsMaker, labelled, of_refresh
from hsm_tools.statistics.stats_options import Address
from hsm_tools.statistics.stats_report import ReportSource, Stats

_END_TIMEOUT_S = 1.0

logger = logging.getLogger(__name__)


class Exporter(Collector):
    """The metrics of the streams, as of the last `refresh`."""

    def __init__(self, config: Config, wanted: ActionFilter, jobs: int = 1) -> None:
        """Raises `ConfigError` for a server that cannot be used; nothing is sent yet."""
        self.ending = threading.Event()
        """Set, from any thread, to end `run` soon."""
        self._streams = LiveStreams.from_config(config, on_page=self._keep_going, jobs=jobs)
        self._summaries = Summaries(wanted)
        self._maker = MetricsMaker()
        self._source = ReportSource.of(self._streams)
        self._of_streams: list[Metric] = []
        self._refreshed_at_s, self._refresh_duration_s = 0.0, 0.0
        self._of_refresh = self._refreshed(is_up=None)
        self._has_begun = False
        self._to_begin: set[str] = set()
        self._outage: str | None = None
        self._troubles: set[str] = set()

    def collect(self) -> list[Metric]:
        """What a scrape is given."""
        return [*self._of_refresh, *self._of_streams]

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not know the names."""
        return []

    def run(self, interval_s: float) -> None:
        """Refresh every `interval_s` until `ending` is set; a refresh that is late is skipped."""
        due_s = time.monotonic()
        while not self.ending.wait(max(0.0, due_s - time.monotonic())):
            try:
                self.refresh()
            except CalledOff:
                break
            due_s = max(due_s + interval_s, time.monotonic())
        self._streams.close()

    def refresh(self) -> None:
        """Make the metrics of what the streams say now; those of before stay if Redis does not answer or refuses."""
        begun_s = time.monotonic()
        try:
            self._streams.refresh()
        except StreamError as error:
            self._say_outage(str(error))
            self._of_refresh = self._refreshed(is_up=False)
            return
        self._say_outage(None)
        self._say_troubles()
        self._forget_past()
        streams, now_s = list(self._streams), time.time()
        stats = Stats(now_s, streams, self._summaries.groups(streams), self._source, self._streams.replica)
        self._of_streams = labelled(self._maker.make(stats, counting=True), self._source)
        self._refreshed_at_s, self._refresh_duration_s = now_s, time.monotonic() - begun_s
        self._of_refresh = self._refreshed(is_up=True)

    def _refreshed(self, *, is_up: bool | None) -> list[Metric]:
        return labelled(of_refresh(is_up, self._refreshed_at_s, self._refresh_duration_s or None), self._source)

    def _forget_past(self) -> None:
        """To Prometheus a counter begins at 0: what the streams hold at the start would count with every restart."""
        if not self._has_begun:
            self._has_begun = True
            self._to_begin = {stream.mdt for stream in self._streams}
        for stream in self._streams:
            if stream.mdt in self._to_begin and stream.trouble is None:
                stream.tally.forget_past()
                self._to_begin.discard(stream.mdt)

    def _say_outage(self, outage: str | None) -> None:
        """One line when it begins, or another reason is given, and one when it is over."""
        if outage is None and self._outage is not None:
            logger.warning("Redis at %s answers again", self._streams.address)
        elif outage is not None and outage != self._outage:
            logger.warning("%s (what was known before is served)", outage)
        self._outage = outage

    def _say_troubles(self) -> None:
        troubles = {stream.trouble for stream in self._streams if stream.trouble is not None}
        for stream in self._streams:
            if stream.heartbeat_trouble is not None:
                troubles.add(f"{stream.mdt}: {stream.heartbeat_trouble}")
        if self._streams.replica is not None and self._streams.replica.is_behind:
            troubles.add(f"reading from {self._streams.replica._replace(silent_s=None)}")
        for trouble in sorted(troubles - self._troubles):
            logger.warning("%s", trouble)
        self._troubles = troubles

    def _keep_going(self, _entries: int) -> None:
        if self.ending.is_set():
            raise CalledOff("this process is to stop")


def serve(exporter: Exporter, at: Address, interval_s: float, say: Callable[[str], None]) -> NoReturn:
    """Serve until a signal raises; `HsmError` if the address cannot be listened on."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(exporter)
    try:
        server, _thread = start_http_server(at.port, at.host, registry)
    except OSError as error:
        hint = "is it running already? Name another port, or an address of this host"
        raise HsmError(f"cannot listen on {at}: {error.strerror}", hint) from None
    say(f"serving http://{at._replace(port=server.server_port)}/metrics")
    failed: SimpleQueue[BaseException] = SimpleQueue()

    def refresh() -> None:
        try:
            exporter.run(interval_s)
        except BaseException as error:  # noqa: BLE001 - raised below: nobody is to be served what nobody renews
            failed.put(error)

    refreshing = threading.Thread(target=refresh, name="refresh", daemon=True)
    refreshing.start()
    try:
        raise failed.get()
    finally:
        exporter.ending.set()
        refreshing.join(_END_TIMEOUT_S)
