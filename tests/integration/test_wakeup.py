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


def test_a_child_closes_what_is_open_and_asks_for_nothing_else(members: dict[int, Any]) -> None:
    options = SimpleNamespace(get_socket_map=lambda: members, minfds=1_000_000)
    make_wakeup(SimpleNamespace(options=options))
    told, tell = os.pipe()
    highest = os.dup2(told, 700)
    pid = os.fork()
    if pid == 0:
        os.write(tell, str(options.minfds).encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert highest < int(os.read(told, 20)) < 1_000_000
    assert options.minfds == 1_000_000, "the parent's is as it was"
    for fd in (highest, told, tell):
        os.close(fd)
