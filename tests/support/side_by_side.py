"""Streams that are long enough to be read in several processes, and the processes that read them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hsm_shipper.contract.redis_keys import stream_key
from hsm_tools.live_state import beside
from tests.support.dashboards import PREFIX, Streams
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, eventually

MDTS = [f"elm-MDT{number:04x}" for number in range(16)]
# Of all streams together, and of the longest: by what `beside` says one process more is of use.
_ENTRIES = beside.ENTRIES_PER_PROCESS * 5 // 4
ENTRIES_EACH = _ENTRIES // (len(MDTS) - 1)


@contextmanager
def however_short() -> Iterator[None]:
    """Within it streams of any length are read side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "ENTRIES_PER_PROCESS", 1)
        yield


def fill(server: RedisServer, db: int) -> Streams:
    """Streams that two processes read."""
    streams = Streams(server, db)
    key = stream_key(PREFIX, MDTS[0])
    batch = 2500
    while (length := streams.client.xlen(key)) < ENTRIES_EACH:
        streams.new(MDTS[0], range(length, min(length + batch, ENTRIES_EACH)))
    for mdt in MDTS[1:]:
        streams.client.copy(key, stream_key(PREFIX, mdt))
    return streams


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started, and that have not ended."""
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return [child for child in found if state(child) not in ("Z", None)]


def state(pid: int) -> str | None:
    """The state of a process as proc_pid_stat(5) has it; None for one that is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def reading_process(parent: subprocess.Popen[str]) -> int:
    """The process that reads beside `parent`, which stands still from here on until SIGCONT."""

    def found() -> list[int]:
        assert parent.poll() is None, parent.communicate()
        parent.send_signal(signal.SIGSTOP)
        if not (beside_it := children(parent.pid)):
            parent.send_signal(signal.SIGCONT)
        return beside_it

    [child] = eventually(found, interval_s=0.005)
    return child


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return state(pid) in (None, "Z")


def ended(parent: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status, and what it has said on standard error."""
    _, said = parent.communicate(timeout=DEADLINE_S)
    return parent.returncode, said
