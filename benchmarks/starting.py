"""From the command to the first event in Redis, on a server that has never run it, beside a bare supervisord's start.

The bare one runs one Python process that imports redis and sqlite3, and says so. supervisord itself waits a second
before it starts anything; the second floor has our plug-in that spares it, and is the one that is hard to beat.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.child import BenchmarkError, Run
from benchmarks.many_lists import LongListing
from benchmarks.rows import Row
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, stream_key
from tests.support.servers import RedisServer
from tests.support.shipper import COMMAND, clean_environment
from tests.support.site import SimulatedServer

_REDIS_DB = 1
_AIM = 1.5
_RUNS_PER_REPETITION = 3
_TIMEOUT_S = 60.0

_BARE = """\
[supervisord]
nodaemon=true
silent=true
logfile={folder}/log
pidfile={folder}/pid
childlogdir={folder}
[unix_http_server]
file={folder}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
{plugin}
[program:one]
command={python} -P -c "import redis, sqlite3; open('{folder}/started', 'w').write('x')"
autorestart=false
startsecs=0
"""
_PLUGIN = """\
[rpcinterface:wakeup]
supervisor.rpcinterface_factory=hsm_shipper.supervision.wakeup:make_wakeup
"""


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    """Start all three in turn, each time afresh."""
    as_it_is = Row("floor: supervisord, a Python that imports redis and sqlite3", memory_shown=False)
    eager = Row("the same, without supervisord's wait of a second", memory_shown=False)
    first = Row("from the command to the first event", as_it_is, _AIM, memory_shown=False)
    beside_eager = Row("the same, beside the second floor", eager, memory_shown=False)
    for _ in range(_RUNS_PER_REPETITION * repetitions):
        run = _first_event(server, lines)
        first.add(run, beside=_bare(folder, ""))
        beside_eager.add(run, beside=_bare(folder, _PLUGIN))
    return [as_it_is, eager, first, beside_eager]


def _first_event(server: RedisServer, lines: int) -> Run:
    site = SimulatedServer(server, _REDIS_DB, poll_interval=20)
    key = stream_key(DEFAULT_PREFIX, LongListing(site.mds, 0, lines).mdt)
    try:
        with _running([str(COMMAND), "-c", str(site.config)]) as begun, server.client(_REDIS_DB) as client:
            if not client.xread({key: "0"}, count=1, block=round(1000 * _TIMEOUT_S)):
                raise BenchmarkError(f"no event within {_TIMEOUT_S:g} s")
            run = Run(time.perf_counter() - begun, 0.0)
        site.redis.flushdb()
    finally:
        site.close()
    return run


def _bare(parent: Path, plugin: str) -> Run:
    folder = parent / "bare"
    folder.mkdir()
    config, started = folder / "conf", folder / "started"
    config.write_text(_BARE.format(folder=folder, python=sys.executable, plugin=plugin))
    os.mkfifo(started)
    command = [str(COMMAND.with_name("supervisord")), "-n", "-c", str(config)]
    command += ["-u", "0"] if os.getuid() == 0 else []
    with _running(command) as begun:
        started.read_bytes()  # opens once somebody writes
        run = Run(time.perf_counter() - begun, 0.0)
    shutil.rmtree(folder)
    return run


@contextmanager
def _running(command: Sequence[str]) -> Iterator[float]:
    """When it was started; it is stopped behind the body."""
    begun = time.perf_counter()
    with subprocess.Popen(
        command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield begun
        finally:
            process.terminate()
            process.wait(_TIMEOUT_S)
