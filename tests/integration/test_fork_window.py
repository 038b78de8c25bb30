"""What supervisord forks keeps nothing of its signal handling: in a process of its own that forks as it does."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROUNDS = 100
# As supervisord does: its handlers note a signal for later; a child closes all descriptors one by one, then executes.
# A child that TERM does not end becomes a program that says so.
FORKS = """
import os, signal, sys, time, types
from supervisor.options import SignalReceiver
from hsm_shipper.supervision.wakeup import make_wakeup

moment, rounds = sys.argv[1], int(sys.argv[2])
receiver = SignalReceiver()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2):
    signal.signal(number, receiver.receive)
options = types.SimpleNamespace(get_socket_map=lambda: {})
make_wakeup(types.SimpleNamespace(options=options))
make_wakeup(types.SimpleNamespace(options=options))  # a reload

ended = []
for _ in range(rounds):
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgrp()
        if moment == "before the descriptors are closed":
            os.write(tell, b"now")
            time.sleep(0.02)
        os.dup2(tell, 9000)
        for fd in range(3, 8192):
            try:
                os.close(fd)
            except OSError:
                pass
        if moment == "after":
            os.write(9000, b"now")
        time.sleep(60)  # whenever the parent's turn comes
        os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit('it lives')"])
    os.close(tell)
    if moment != "at once":
        os.read(told, 3)
    os.kill(pid, signal.SIGTERM)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.close(told)
assert ended == [-signal.SIGTERM] * rounds, ended
# And supervisord itself goes on as before: what it gets, it notes.
os.kill(os.getpid(), signal.SIGHUP)
assert signal.SIGHUP in receiver._signals_recvd
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


@pytest.mark.parametrize("moment", ["at once", "before the descriptors are closed", "after"])
def test_term_ends_a_child_that_is_no_program_yet(moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, moment, str(ROUNDS)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
