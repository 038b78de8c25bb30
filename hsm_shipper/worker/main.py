"""The worker: polls one MDT until it is told to stop. One process per MDT, started by supervisord.

python -m hsm_shipper.worker.main --mdt elm-MDT0000 --actions /sys/…/elm-MDT0000/hsm/actions [--config FILE]
"""

from __future__ import annotations

import logging
import math
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import StreamUnavailable
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.lustre.coordinator import read_hsm_control
from hsm_shipper.lustre.departure import closed_when_gone
from hsm_shipper.process.cadence import Cadence
from hsm_shipper.process.gc_tuning import relax_collector
from hsm_shipper.process.lateness import Lateness
from hsm_shipper.process.program import command_line, run_program
from hsm_shipper.process.stop_signal import StopSignal
from hsm_shipper.state.locks import FileLock, worker_lock_path
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.stream.connection import address, connect
from hsm_shipper.stream.connection_age import ConnectionAge
from hsm_shipper.stream.keeping import Keeping
from hsm_shipper.stream.stream import ActionStream
from hsm_shipper.worker.changes import ChangeWriter
from hsm_shipper.worker.heartbeat_writer import HeartbeatWriter
from hsm_shipper.worker.outbox import SEND_S, OutboxBound
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.poll_spread import first_tick_s, share_of_interval
from hsm_shipper.worker.poller import Poller
from hsm_shipper.worker.stream_replica import StreamReplica

_log = logging.getLogger(__name__)


def make_poller(
    client: redis.Redis, config: Config, mdt: str, actions_file: ActionsFile, *, send_s: float = SEND_S
) -> tuple[Poller, StreamReplica]:
    """A poller of `mdt` and what it keeps open beside the actions file. The caller holds the worker's lock.

    `send_s` is for how long a poll appends what waits (`OutboxBound`).
    """
    relax_collector()
    stream = ActionStream(client, _key(config, mdt), address(config), Keeping.configured(config))
    bound = OutboxBound.configured(config, send_s)
    replica = StreamReplica(state_file(config.state_path, mdt), stream, config.host, bound)
    writer = ChangeWriter(mdt, config.host, config.include_raw)
    return Poller(actions_file, replica, writer, partial(read_hsm_control, actions_file.path)), replica


def run_once(config: Config, mdt: str, actions: Path) -> PollResult:
    """Poll `mdt` once in this process. Raises `AlreadyRunning`, or the poll's own `HsmError`."""
    with (
        FileLock(worker_lock_path(config.state_path, mdt), f"a worker of {mdt}"),
        closing(ActionsFile(actions, hold=config.hold_actions_file)) as actions_file,
    ):
        client = connect(config, _key(config, mdt))
        poller, replica = make_poller(client, config, mdt, actions_file, send_s=math.inf)  # nobody waits for more polls
        try:
            result = poller.poll()
        finally:
            replica.close()
    if result.error is not None:
        raise result.error
    return result


def run(config: Config, mdt: str, actions: Path, stop: StopSignal) -> None:
    """Poll `mdt` every `poll_interval_s` until told to stop. Raises `AlreadyRunning`."""
    with FileLock(worker_lock_path(config.state_path, mdt), f"a worker of {mdt}"):
        client = connect(config, _key(config, mdt))
        actions_file = ActionsFile(actions, hold=config.hold_actions_file)
        poller, replica = make_poller(client, config, mdt, actions_file)
        pulse = HeartbeatWriter(client, config, mdt, actions)
        age = ConnectionAge()
        lateness = Lateness(
            _log, "polls", "what is slow, Redis, state_dir, or reading the list? Else raise poll_interval"
        )
        _log.info("polling %s every %g s", actions, config.poll_interval_s)
        first_tick = first_tick_s(time.monotonic(), config.poll_interval_s, share_of_interval(mdt))
        cadence = Cadence(config.poll_interval_s, first_tick)
        with closed_when_gone(actions_file):
            after_poll(poller.poll(), pulse)
            while not cadence.wait(stop):
                lateness.look(cadence)
                if age.is_over():
                    client.connection_pool.disconnect()
                after_poll(poller.poll(), pulse)
        replica.close()
    _log.info("stopped")


def _key(config: Config, mdt: str) -> str:
    return stream_key(config.redis_stream_prefix, mdt)


def after_poll(result: PollResult, pulse: HeartbeatWriter) -> None:
    """Tell of it, where that would not wait for Redis a second time."""
    if result.error is not None:
        pulse.failed_polls += 1
    if result.status is not None and not isinstance(result.error, StreamUnavailable):
        pulse.beat(result.status)


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; 0 once stopped, 1 with one line of error if it cannot begin."""
    parser = command_line("hsm_shipper.worker.main")
    parser.add_argument("--mdt", required=True)
    parser.add_argument("--actions", type=Path, required=True)
    options = parser.parse_args(arguments)
    stop = StopSignal()
    return run_program(
        f"mdt-{options.mdt}", options.config, lambda config: run(config, options.mdt, options.actions, stop)
    )


if __name__ == "__main__":
    sys.exit(main())
