"""The process that becomes supervisord: out of the caller's hands, with its locks held and its log within reach.

python-daemon and supervisord both close descriptors that they do not know: what must stay open is put out of their
way here.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from hsm_shipper.process.privacy import keep_private
from hsm_shipper.process.stop_signal import handled
from hsm_shipper.state.locks import FileLock

STDERR = Path("/dev/fd/2")

# supervisord closes 5 and above when it reloads, and leaves these alone.
_KEPT_FDS = (3, 4)
# Where nothing else is, while descriptors are moved about.
_HIGH_FD = 64
_DRAIN_TIMEOUT_S = 5.0
# cat ends when it cannot write: that part is lost, and what follows may be taken again (a disk with room), or goes the
# same way (a pipe that nobody reads). Only where there is no cat there is no use in another.
_RELAY = "until cat 2>/dev/null; do case $? in 126|127) exit;; esac; done"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def daemon_process(locks: Sequence[FileLock], log: IO[bytes] | None = None, kept: Sequence[int] = ()) -> Iterator[None]:
    """Run the body as a daemon, in `/` and without standard input, that still holds `locks` (at most two).

    With `log` it is detached: a process of its own, which writes its standard output and error there. Without, it
    stays in the foreground, with those that it has. `kept` are further descriptors to leave open. The pid in each
    lock is the one that the body runs with.
    """
    import daemon  # 60 ms

    assert len(locks) <= len(_KEPT_FDS)
    lock_fds = [fcntl.fcntl(lock.fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for lock in locks]
    kept_fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in kept]
    with daemon.DaemonContext(
        detach_process=log is not None,
        umask=keep_private(),
        stdout=log or sys.stdout,
        stderr=log or sys.stderr,
        files_preserve=[*lock_fds, *kept_fds],
        signal_map={},
    ):
        if log is not None:
            log.close()  # it is 1 and 2 by now
        for lock, fd, free in zip(locks, lock_fds, _KEPT_FDS, strict=False):
            lock.fd = os.dup2(fd, free, inheritable=False)
            os.close(fd)
            lock.write_pid()
        yield


@contextmanager
def reopenable_stderr() -> Iterator[None]:
    """In the body, opening `STDERR` for appending gives standard error, as supervisord does for every program.

    A socket (systemd's journal) cannot be opened, and a file that is not in append mode would be opened at another
    offset and overwritten: then a small child copies what we write to where it was to go.
    """
    with ExitStack() as stack:
        if not _is_reopenable(sys.stderr.fileno()):
            stack.enter_context(_relay(sys.stderr.fileno()))
        yield


def _is_reopenable(fd: int) -> bool:
    if stat.S_ISREG(os.fstat(fd).st_mode) and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
        return False
    try:
        os.close(os.open(f"/dev/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@contextmanager
def _relay(fd: int) -> Iterator[None]:
    """`fd` becomes a pipe to a child that copies it to what `fd` was, until the last writer has gone."""
    read_end, write_end = os.pipe()
    with handled(_STOP_SIGNALS, signal.SIG_IGN):  # inherited: the relay ends after everything that it has to pass on
        relay = subprocess.Popen(
            ["sh", "-c", _RELAY], stdin=read_end, stdout=fd, start_new_session=True, restore_signals=False
        )
    os.close(read_end)
    os.dup2(write_end, fd)
    os.close(write_end)
    try:
        yield
    finally:
        sys.stderr.flush()
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), fd)
        with suppress(subprocess.TimeoutExpired):  # a program that outlives us holds the pipe open
            relay.wait(_DRAIN_TIMEOUT_S)
