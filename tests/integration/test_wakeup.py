"""The plug-in for supervisord: a signal ends a wait that nothing else would."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hsm_shipper.supervision.wakeup import make_wakeup
from tests.support.waiting import DEADLINE_S


@pytest.fixture
def members() -> Iterator[dict[int, Any]]:
    """What supervisord's loop waits for."""
    members: dict[int, Any] = {}
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield members
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_ends_a_wait(members: dict[int, Any]) -> None:
    supervisord = SimpleNamespace(options=SimpleNamespace(get_socket_map=lambda: members))
    for _ in range(2):  # again at a reload
        make_wakeup(supervisord)
        [(fd, member)] = members.items()
        member.handle_read_event()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(0) == []
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert poll.poll(DEADLINE_S * 1000) == [(fd, select.POLLIN)]
        timer.join()
        os.close(fd)
