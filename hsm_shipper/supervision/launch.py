"""Running the shipper: supervisord, in this process or a detached one, with what its configuration file needs."""

from __future__ import annotations

import os
import resource
import select
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError, SupervisorError, may_pass, writing_hint
from hsm_shipper.lustre.mdts import find_mdts
from hsm_shipper.process.output import OutputLines, Unfailing, never_fail_at_stderr, print_err
from hsm_shipper.process.own_files import open_for_append
from hsm_shipper.process.parent_death import SUPERVISORD_PID_VARIABLE
from hsm_shipper.process.privacy import forget_configuration
from hsm_shipper.state.locks import SHIPPER_LOCK, FileLock
from hsm_shipper.supervision import daemonize
from hsm_shipper.supervision.run_folder import PID_FILE, RunFolder
from hsm_shipper.supervision.supervisord import ProgramFiles, Supervisor, programs_for

SUPERVISORD_CONF = Path(__file__).parents[1] / "supervisord.conf"
LOG_FILE = "hsm-action-shipper.log"

# supervisord holds some four descriptors for each program.
_MIN_FDS = 8192
# Supervisord is up within a second. On a server that is short of processor time it may take long, and would then run
# although the start was called a failure: one that ends says so at once, and only one that hangs is waited for in vain.
_START_TIMEOUT_S = 120.0
_START_POLL_S = 0.05
_KILLED_BEFORE = (
    "hsm-action-shipper: warning: the one before was killed, not stopped: workers go on where they were, and no event "
    "is lost or told twice; if nobody did that, look for the kernel's reason (dmesg)"
)
# supervisord repeats the whole log as its own at its "debug".
_LOG_LEVELS = {"DEBUG": "info", "INFO": "info", "WARNING": "warn", "ERROR": "error"}


def shipper_lock(config: Config) -> FileLock:
    """The lock of whoever works on `state_dir`. Raises `AlreadyRunning`, naming the pid of who does."""
    return FileLock(config.state_path / SHIPPER_LOCK, f"hsm-action-shipper on {config.state_dir}")


def run_in_foreground(config: Config) -> int:
    """Run supervisord until a stop signal; returns the exit status. Raises `HsmError` if it cannot start."""
    log_file = Path(config.log_file) if config.log_file else None
    with _exclusively(config) as locks:
        if log_file is not None:
            _open_log(log_file).close()
        with daemonize.daemon_process(locks), daemonize.reopenable_stderr():
            return _supervisord(config, locks[-1], log_file or daemonize.STDERR)


def run_detached(config: Config) -> int:
    """Start supervisord in a process of its own; returns the exit status once it answers.

    Returns in the detached process too, when it ends. Raises `HsmError` if it cannot start, or ends at once.
    """
    log_file = Path(config.log_file or config.run_path / LOG_FILE)
    with _exclusively(config) as locks:
        log = _open_log(log_file)
        alive, held_while_alive = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            with daemonize.daemon_process(locks, log, kept=[held_while_alive]):
                return _supervisord(config, locks[-1], log_file)
        os.close(held_while_alive)
        os.waitpid(child, 0)  # detaching forks again
        return _wait_until_up(config, log_file, alive)


@contextmanager
def _exclusively(config: Config) -> Iterator[list[FileLock]]:
    """The locks on state_dir and run_dir, in this order.

    Two shippers with different state would still share sockets and program files.
    """
    with shipper_lock(config) as state_lock:
        pid_file = FileLock(config.run_path / PID_FILE, f"hsm-action-shipper in {config.run_dir}")
        with pid_file as run_lock:
            _refuse_open_folder(config.run_path)
            programs = ProgramFiles(config.run_path)
            programs.empty()
            # Workers of the MDTs that are here start with everything else, and not only once discovery has looked.
            programs.write(programs_for(find_mdts(config.mdt_watch_glob).mdts))
            forget_configuration()
            yield [state_lock, run_lock]


def _refuse_open_folder(run_dir: Path) -> None:
    """Raise `ConfigError` where every user may write: supervisord runs, as our user, whatever lies in its `mdt.d`."""
    if run_dir.stat().st_mode & stat.S_IWOTH:
        hint = f"chmod o-w {run_dir}, or set run_dir to a folder of its own"
        raise ConfigError(f"run_dir: every user may write in {run_dir}, and have programs run there", hint)


def _supervisord(config: Config, run_lock: FileLock, log: Path) -> int:
    import supervisor.loggers
    import supervisor.supervisord

    RunFolder.kept = folder = RunFolder(config, run_lock)
    if folder.is_left_over():
        print_err(_KILLED_BEFORE)
    folder.prepare()
    os.environ |= {
        "SHIPPER_RUN_DIR": config.run_dir,
        "SHIPPER_LOG": str(log),
        "SHIPPER_LOG_LEVEL": _LOG_LEVELS[config.log_level],
        "SHIPPER_MINFDS": str(_min_fds()),
        "SHIPPER_PYTHON": shlex.quote(sys.executable),
        SUPERVISORD_PID_VARIABLE: str(os.getpid()),
    }
    # supervisord ends when neither its log nor standard error takes a line: on a full disk, or a pipe that has closed.
    never_fail_at_stderr()
    supervisor.loggers.open = _open_unfailing
    as_root = ["-u", "0"] if os.getuid() == 0 else []  # without, it warns that it stays root, as it must
    try:
        supervisor.supervisord.main(["-c", str(SUPERVISORD_CONF), *as_root])
    except SystemExit:
        # Its way to say that its configuration cannot be used, or its socket: ours can, and a start makes both anew.
        folder.clear()
        raise SupervisorError(
            "supervisord gave up, at the start or at a reload: the lines above say why", "start it again"
        ) from None
    folder.clear()
    return 0


def _min_fds() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MIN_FDS if hard == resource.RLIM_INFINITY else min(_MIN_FDS, hard)


def _open_log(path: Path) -> IO[bytes]:
    """Made for its owner and group alone, as all that the daemon makes."""
    try:
        return os.fdopen(open_for_append(path), "ab", buffering=0)
    except OSError as error:
        message = f"cannot write log file {path}: {error.strerror}"
        if may_pass(error):
            raise SupervisorError(message, "make room on its file system") from None
        raise ConfigError(message, writing_hint(error, "set log_file, or check its folder")) from None


def _open_unfailing(path: str, mode: str) -> IO[bytes]:
    """The log, for supervisord and for each of its programs, which would not start without; `_open_log` came first."""
    try:
        return Unfailing(path, mode, opener=lambda path, _flags: open_for_append(path))
    except OSError as error:
        print_err(f"cannot open log {path}: {error.strerror}; what follows is lost until it is opened again (SIGUSR2)")
        return Unfailing(os.devnull, mode)


def _wait_until_up(config: Config, log_file: Path, alive: int) -> int:
    """Report how the detached process starts: `alive` is a pipe that ends with it."""
    supervisor = Supervisor(config.run_path, config.state_path)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if select.select([alive], [], [], _START_POLL_S)[0]:
            raise SupervisorError("the detached hsm-action-shipper has ended at once", f"see {log_file}")
        try:
            pid = supervisor.pid()
        except SupervisorError:
            continue
        # Whether or not anybody reads that: it is up.
        OutputLines().print_out(f"hsm-action-shipper runs detached (pid {pid}), log {log_file}")
        return 0
    raise SupervisorError(f"supervisord does not answer after {_START_TIMEOUT_S:.0f} s", f"see {log_file}")
