"""`make demo`, `python -m tests.simulator.demo`: the real thing on simulated metadata servers, and the proof.

A real Valkey server, two simulated metadata servers with three MDTs, a real `hsm-action-shipper` on each server, an MDT
that fails over while it runs, and `hsm-stream-tail` on the terminal. At the end, what the streams say is compared with
the actions files. Everything is in a temporary folder, and nothing is left of it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import redis

from hsm_shipper.contract.redis_keys import DATA_FIELD, DEFAULT_PREFIX, stream_key
from hsm_shipper.errors import HsmError
from hsm_shipper.state.poll_status import PollStatus
from tests.support.servers import RedisServer
from tests.support.truth import digests_of
from tests.support.waiting import DEADLINE_S, eventually

from . import DEFAULT_MIX, ENABLED, SimulatedMdt, Workload, populate
from .demo_report import MdtReport, SimulatedVerdict, table, wrong
from .demo_server import DemoError, Server, end, start
from .records import FINAL_STATUSES

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130

_REDIS_DB = 1

# Simulated time runs faster, so that one sees requests from their beginning to their end. The rates give the tail a few
# lines a second; the lists are full of finished requests, and the grace delay of some of them ends every second.
_SPEED = 5.0
_TICK_S = 0.5
_ARRIVALS_PER_S = 0.15
_MEAN_WORK_S = 20.0
_MAX_REQUESTS = 4  # at a time: some have to wait
_GRACE_DELAY_S = 600
_MIX = {kind: weight for kind, weight in DEFAULT_MIX.items() if kind[1] in FINAL_STATUSES}
# For so long no server has the MDT that fails over: the one that had it must notice.
_AWAY_S = 2.5


class Site:
    """Two servers, three MDTs, and the life on them."""

    def __init__(self, folder: Path, redis_url: str, client: redis.Redis, requests: int) -> None:
        self.mds1, self.mds2 = self.servers = Server("mds1", folder, redis_url), Server("mds2", folder, redis_url)
        self.workloads = [_workload(number, requests) for number in range(3)]
        self._redis = client
        self._server_of: dict[SimulatedMdt, Server] = {}
        for workload, server in zip(self.workloads, (self.mds1, self.mds1, self.mds2), strict=True):
            workload.mdt.mount(server.mds)
            self._server_of[workload.mdt] = server

    def __str__(self) -> str:
        return ", ".join(f"{mdt.name} ({len(mdt):,} requests) on {at.name}" for mdt, at in self._server_of.items())

    @contextlib.contextmanager
    def shippers(self) -> Iterator[None]:
        """Run a shipper on each server."""
        try:
            for server in self.servers:
                server.start()
            yield
        finally:
            for server in self.servers:
                server.ask_to_stop()
            for server in self.servers:
                server.stop()

    def live(self, seconds: float) -> None:
        """Let time pass on every MDT that is mounted, and show what happens."""
        started_at = time.monotonic()
        for turn in range(1, round(seconds / _TICK_S) + 1):
            time.sleep(max(0.0, started_at + turn * _TICK_S - time.monotonic()))
            self._check_servers()
            for workload in self.workloads:
                if workload.mdt in self._server_of:
                    workload.advance(_TICK_S * _SPEED)
                    workload.mdt.write()

    def fail_over(self, workload: Workload, to: Server) -> None:
        """Take an MDT from its server, and after a while mount it on another one, with changes in between."""
        mdt = workload.mdt
        origin = self._server_of.pop(mdt)
        say(f"{origin.name}: {mdt.name} is unmounted, to fail over to {to.name}; it has {self.events(mdt):,} events")
        mdt.unmount()
        self.live(_AWAY_S)
        before = self.events(mdt)
        mdt.attach(to.mds)
        mdt.set_hsm_control(ENABLED)
        workload.advance(_AWAY_S * _SPEED)  # before the listing is there: the first one that is seen has changes in it
        mdt.write()
        self._server_of[mdt] = to
        say(f"{to.name}: {mdt.name} is mounted, changed meanwhile; it has {before:,} events, and {len(mdt):,} requests")
        self.wait_until(f"{to.name} to poll {mdt.name}", lambda: self.last_poll(mdt) is not None)
        say(f"{to.name}: {mdt.name} is polled; {self.events(mdt) - before:,} events since, for what has changed")

    def wait_for_final_polls(self) -> None:
        """Two polls of every list as it is: a reading that looks wrong is believed when the next one says the same."""
        for _ in range(2):
            self._wait_for_polls_after(time.time())

    def _wait_for_polls_after(self, now: float) -> None:
        def begun() -> bool:
            polls = [self.last_poll(mdt) for mdt in self._server_of]
            return all(poll is not None and poll.last_poll_at - poll.last_poll_duration_s > now for poll in polls)

        self.wait_until("a poll of every MDT", begun)

    def wait_until(self, what: str, check: Callable[[], bool]) -> None:
        """Wait until something is true while the shippers run; `DemoError` if it takes too long."""

        def still() -> bool:
            self._check_servers()
            return check()

        try:
            eventually(still)
        except AssertionError:
            raise DemoError(f"waited {DEADLINE_S:g} s in vain for {what}") from None

    def last_poll(self, mdt: SimulatedMdt) -> PollStatus | None:
        """How the last poll of an MDT went, on the server that has it now."""
        return self._server_of[mdt].last_poll(mdt.name)

    def all_polled(self) -> bool:
        """Whether every MDT has been polled."""
        return all(self.last_poll(mdt) is not None for mdt in self._server_of)

    def events(self, mdt: SimulatedMdt) -> int:
        """The length of an MDT's stream."""
        return int(self._redis.xlen(_key(mdt)))

    def reports(self) -> list[MdtReport]:
        """What the streams say, beside what the actions files hold."""
        reports = []
        for mdt, server in sorted(self._server_of.items(), key=lambda item: item[0].name):
            stream = SimulatedVerdict()
            entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self._redis.xrange(_key(mdt)))
            for entry_id, fields in entries:
                stream.add(entry_id.decode(), fields.get(DATA_FIELD))
            listing = server.mds.actions_path(mdt.name).read_bytes()
            reports.append(MdtReport(mdt.name, stream, digests_of(listing)))
        return reports

    def _check_servers(self) -> None:
        _check_interruptions()
        for server in self.servers:
            server.check_runs()


def _workload(number: int, requests: int) -> Workload:
    mdt = SimulatedMdt(f"elm-MDT{number:04x}", grace_delay_s=_GRACE_DELAY_S, max_requests=_MAX_REQUESTS)
    populate(mdt, requests, _MIX)
    return Workload(mdt, arrivals_per_s=_ARRIVALS_PER_S, mean_work_s=_MEAN_WORK_S)


def _key(mdt: SimulatedMdt) -> str:
    return stream_key(DEFAULT_PREFIX, mdt.name)


def play(site: Site, duration_s: float) -> None:
    """The demo itself, up to where everything has stopped."""
    say(f"{site}; starting hsm-action-shipper on both servers")
    with site.shippers():
        site.wait_until("the first polls", site.all_polled)
        shipped = ", ".join(f"{workload.mdt.name} {site.events(workload.mdt):,}" for workload in site.workloads)
        say(f"all requests are shipped, events: {shipped}; hsm-stream-tail follows what happens from now on")
        tail = start("hsm-stream-tail", site.mds1.config)
        try:
            site.live(duration_s / 2)
            site.fail_over(site.workloads[1], site.mds2)
            site.live(duration_s / 2)
            say("nothing happens any more; waiting until the workers have polled that")
            site.wait_for_final_polls()
        finally:
            end(tail)
        say("mds2: hsm-action-shipper status")
        site.mds2.show_status()
        say("stopping everything, and comparing the streams with the actions files")


def conclude(reports: Sequence[MdtReport]) -> int:
    """Print the table and what is wrong; returns the exit status."""
    print(table(reports))
    faults = wrong(reports)
    for fault in faults:
        print(fault)
    say("WRONG: a stream differs from its file, or says what is not so" if faults else "every stream tells the truth")
    return EXIT_WRONG if faults else 0


# What a handler raises may come up anywhere, also where Python swallows it (while it forks) or prints it and goes on
# (in a finalizer), so the handler only leaves word, and the demo looks for it at every step.
_interruptions: list[int] = []


def _interrupt(number: int, _: object) -> None:
    _interruptions.append(number)


def say(text: str) -> None:
    """A line of the story, which stands out from what the commands print."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    print(f"{bold}=== {text}{plain}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if the streams tell the truth."""
    options = _parse(arguments)
    _interruptions.clear()
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, _interrupt)
    try:
        return _run(options.duration, options.requests)
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except (DemoError, HsmError, AssertionError, OSError, redis.RedisError, subprocess.SubprocessError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return EXIT_WRONG


def _run(duration_s: float, requests: int) -> int:
    with contextlib.ExitStack() as stack:
        # A short path: the name of a Unix socket is limited to 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="hsm-demo-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        valkey = RedisServer(folder / "valkey")
        stack.callback(valkey.kill)
        valkey.start()
        client = stack.enter_context(valkey.client(_REDIS_DB))
        say(f"Valkey listens on {valkey.url}; everything is below {folder}")
        site = Site(folder, f"{valkey.url}/{_REDIS_DB}", client, requests)
        try:
            play(site, duration_s)
        except DemoError:
            for server in site.servers:
                print(*server.last_words(), sep="\n", file=sys.stderr)
            raise
        _check_interruptions()
        return conclude(site.reports())


def _check_interruptions() -> None:
    if _interruptions:
        raise KeyboardInterrupt


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator.demo",
        description="Run two hsm-action-shippers on simulated metadata servers, with a tail of the streams and an MDT "
        "that fails over; then compare the streams with the actions files.",
        epilog="exit status: 0 the streams tell the truth, 1 they do not, or the demo failed, 130 interrupted",
    )
    parser.add_argument(
        "--duration", type=_positive, default=24.0, metavar="S", help="seconds of life to show (default: 24)"
    )
    parser.add_argument(
        "--requests", type=_count, default=2000, metavar="N", help="requests of each MDT at first (default: 2000)"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return number


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 1000000")
    return number


if __name__ == "__main__":
    sys.exit(main())
