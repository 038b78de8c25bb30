"""Running `hsm-stream-tail` with a stand-in `lfs`: what is asked for, and the files that its output shows."""

from __future__ import annotations

import subprocess

from tests.support.lustre import MOUNT
from tests.support.readings import MDT0, MDT1
from tests.support.servers import waiting_clients
from tests.support.tails import Tails
from tests.support.waiting import eventually

PATHS = ["--mount", f"elm={MOUNT}"]
# Long enough that only what is known, or known to be unknown, ends the waiting.
PATIENT = [*PATHS, "--path-wait", "3600"]


def fid(n: int) -> str:
    """The FID of the n-th file."""
    return f"0x200000401:{n:#x}:0x0"


def files(output: str) -> list[str]:
    """What is shown between the arrow and the id."""
    return [line.partition(" -> ")[2].rpartition(" (id: ")[0] for line in output.splitlines()]


def following(tails: Tails, *options: str, **environment: str) -> subprocess.Popen[str]:
    """A tail that has begun to wait for events, of which it shows none."""
    for stream in (MDT0, MDT1):
        tails.append(stream, status="OLD")
    tail = tails.start(*options, **environment)
    eventually(lambda: waiting_clients(tails.client))
    return tail
