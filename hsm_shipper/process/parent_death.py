"""Processes that must not outlive their supervisord: the kernel is asked to end them with it."""

from __future__ import annotations

import ctypes
import os
import signal

from hsm_shipper.errors import SupervisorError

# The pid of the supervisord that starts us; set by `hsm-action-shipper` for all its children.
SUPERVISORD_PID_VARIABLE = "SHIPPER_PID"

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def exit_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the supervisord that started it dies, however it dies.

    Does nothing in a process that supervisord did not start. Raises `SupervisorError` if supervisord is gone already.
    Call it before taking locks or starting threads.
    """
    expected = os.environ.get(SUPERVISORD_PID_VARIABLE)
    if expected is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise SupervisorError(f"cannot ask for a signal at supervisord's death: {os.strerror(ctypes.get_errno())}")
    # It may have died before the kernel knew our wish: then nobody will tell us any more.
    if str(os.getppid()) != expected:
        raise SupervisorError(f"supervisord (pid {expected}) is gone already: this process has nobody to work for")
