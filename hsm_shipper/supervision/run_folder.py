"""The folder `run_dir`: what a running shipper keeps there, and puts back when somebody removes it.

Cleaners of temporary folders do. supervisord and its programs would live on, but nobody could reach it: no worker
would be started or stopped any more, and no program could start again without its configuration. Only the process of
supervisord itself is always there and knows all that was lost; so it looks, every five seconds, as a plug-in that is
named in supervisord.conf like `wakeup`. It repairs in place: a reload would stop all workers to mend a path, and a
reload that fails ends supervisord.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from hsm_shipper.config import Config
from hsm_shipper.errors import AlreadyRunning, ConfigError, HsmError, SupervisorError, may_pass
from hsm_shipper.process.last_look import last_look_path
from hsm_shipper.process.own_files import open_for_append
from hsm_shipper.process.whole_file import write_whole
from hsm_shipper.state.locks import FileLock
from hsm_shipper.supervision.supervisord import ProgramFiles, socket_path

PID_FILE = "hsm-action-shipper.pid"
CONFIG_FILE = "config.json"
_SUPERVISORD_PID_FILE = "supervisord.pid"

_BACKLOG = 1024  # as supervisord's own
_SOCKET_MODE = 0o700  # as in supervisord.conf


class RunFolder:
    """The `run_dir` of this process, which holds its `lock`, the pid file."""

    kept: ClassVar[RunFolder | None] = None
    """The one that `make_keeper` is about: supervisord makes plug-ins itself, and has nothing to tell them."""

    def __init__(self, config: Config, lock: FileLock) -> None:
        self._config = config
        self._lock = lock
        self.path = config.run_path
        self.taken: AlreadyRunning | None = None
        """Set when another shipper has the folder: this one must end, and leave there what is there."""

    def prepare(self) -> None:
        """Have what supervisord needs there. Raises what `write_config` does."""
        try:
            (self.path / _SUPERVISORD_PID_FILE).unlink(missing_ok=True)  # supervisord would follow a link
        except OSError as error:
            raise _unusable("remove", self.path / _SUPERVISORD_PID_FILE, error) from None
        self.write_config()

    def is_left_over(self) -> bool:
        """Whether the last shipper here has not cleared it: it was killed."""
        return (self.path / CONFIG_FILE).exists()

    def write_config(self) -> None:
        """The configuration for all programs: they start again at any time, when the file may be half edited.

        Raises `ConfigError`, or `SupervisorError` where it may pass (no room).
        """
        path = self.path / CONFIG_FILE
        try:
            write_whole(path, msgspec.json.encode(self._config) + b"\n", 0o600)  # JSON is YAML; has passwords
        except OSError as error:
            raise _unusable("write", path, error) from None

    def put_back(self) -> Iterator[str]:
        """Put back what is missing, all but the socket and the log; yields what was. Raises `HsmError` or `OSError`."""
        if not self._lock.is_at_path():
            try:
                self._lock.take_again()
            except AlreadyRunning as error:
                self.taken = error
                raise
            yield PID_FILE
        if not (self.path / CONFIG_FILE).exists():
            self.write_config()
            yield CONFIG_FILE
        pid_file = self.path / _SUPERVISORD_PID_FILE
        if not pid_file.exists():
            write_whole(pid_file, f"{os.getpid()}\n".encode(), 0o640)
            yield _SUPERVISORD_PID_FILE
        files = ProgramFiles(self.path)
        if not files.folder.exists():
            files.make()  # discovery writes the files
            yield files.folder.name

    def clear(self) -> None:
        """Remove at the end what no other process removes."""
        if self.taken is not None:
            raise self.taken
        looks = self.path.glob(str(last_look_path(Path(), "*")))
        for path in (self.path / PID_FILE, self.path / CONFIG_FILE, *looks):
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                return  # the folder itself is gone


class _Keeper:
    """Has supervisord look after its run_dir; never raises, for that would end supervisord."""

    def __init__(self, supervisord: Any, folder: RunFolder) -> None:
        from supervisor import events  # late: the commands that only write a configuration need none of it

        self._supervisord = supervisord
        self._options = supervisord.options
        self._folder = folder
        self._socket_path = socket_path(folder.path)
        self._bound = _stat(self._socket_path)
        self._trouble: str | None = None
        events.subscribe(events.Tick5Event, self._look)
        # Before it stops everything: discovery then asks it why, and a reload needs the folder.
        events.subscribe(events.SupervisorStoppingEvent, self._look)

    def _look(self, _event: object) -> None:
        if self._folder.taken is not None:
            return
        missing: list[str] = []
        try:
            for parts in (self._folder.put_back(), self._listen_again(), self._log_again()):
                missing.extend(parts)
        except (HsmError, OSError) as error:
            self._failed(error)
        else:
            self._trouble = None
        if missing:
            self._options.logger.warn(f"{self._folder.path} had lost {', '.join(missing)}: put back")

    def _failed(self, error: Exception) -> None:
        trouble = f"cannot put back what was removed from {self._folder.path}: {error}"
        if trouble != self._trouble:
            self._options.logger.critical(f"{trouble}; tried again every 5 s")
        self._trouble = trouble
        if self._folder.taken is None:
            return
        from supervisor.states import SupervisorStates

        self._options.logger.critical("another hsm-action-shipper has the run_dir by now: this one ends")
        self._options.unlink_socketfiles = self._options.unlink_pidfile = False
        self._options.mood = SupervisorStates.SHUTDOWN

    def _listen_again(self) -> Iterator[str]:
        """Listen on a new socket where the one that was bound is no longer at its path."""
        found = _stat(self._socket_path)
        if found is not None and self._bound is not None and os.path.samestat(found, self._bound):
            return
        draft = self._socket_path.with_name(f"{self._socket_path.name}.{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            draft.unlink(missing_ok=True)
            os.fchmod(listening.fileno(), _SOCKET_MODE)  # Linux makes the file with it: at no time is it anybody's
            listening.bind(str(draft))
            listening.setblocking(False)
            listening.listen(_BACKLOG)
            draft.replace(self._socket_path)
        except OSError:
            listening.close()
            raise
        ((_, server),) = self._options.httpservers
        server.close()
        server.set_socket(listening)
        self._bound = _stat(self._socket_path)
        yield self._socket_path.name

    def _log_again(self) -> Iterator[str]:
        """Open the log again where it lies in the folder and was removed with it."""
        log = Path(self._options.logfile)
        if log.parent != self._folder.path or log.exists():
            return
        self._options.reopenlogs()
        for group in self._supervisord.process_groups.values():
            group.reopenlogs()
        if os.fstat(2).st_nlink == 0:  # the same, of a detached process: what supervisord says when it fails
            descriptor = open_for_append(log)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.close(descriptor)
        yield log.name


def _unusable(what: str, path: Path, error: OSError) -> ConfigError | SupervisorError:
    message = f"cannot {what} {path}: {error.strerror}"
    if may_pass(error):
        return SupervisorError(message, "make room on its file system")
    return ConfigError(message, "check the folder's owner")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def make_keeper(supervisord: Any) -> object:
    """The factory that supervisord calls at start, and again at a reload, when it has forgotten all subscriptions."""
    if RunFolder.kept is None:  # a release without it was started, this one installed meanwhile, and then reloaded
        supervisord.options.logger.warn("run_dir is looked after once hsm-action-shipper is restarted, not reloaded")
        return object()
    return _Keeper(supervisord, RunFolder.kept)
