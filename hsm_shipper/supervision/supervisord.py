"""Talking to supervisord: its XML-RPC over the Unix socket, and the program files that it includes.

Each worker is a group of its own, `mdt-<MDT>`: a group cannot grow without restarting its members. Faults and
connection errors become `SupervisorError` here and nowhere else.
"""

from __future__ import annotations

import http.client
import shlex
import socket
import sys
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers.expat import ExpatError

from hsm_shipper.errors import ControlLost, NotRunning, ShuttingDown, SupervisorError
from hsm_shipper.process.whole_file import write_whole
from hsm_shipper.state.locks import ONCE, SHIPPER_LOCK, holder

REPLY_TIMEOUT_S = 10.0
WORKER_PREFIX = "mdt-"
DISCOVERY = "discovery"
WATCHING = "watching"
"""The type of the message by which discovery tells that it watches."""

# supervisor.xmlrpc.Faults; importing it costs a tool 60 ms, and a test compares them.
SHUTDOWN_STATE = 6
BAD_NAME = 10
ALREADY_STARTED = 60
ALREADY_ADDED = 90
STILL_RUNNING = 91

_PROGRAM = """\
; Written by discovery when {mdt} came to this server, removed when it leaves. Do not edit: discovery puts it back.
[program:{prefix}{mdt}]
command={command} --config %(ENV_SHIPPER_RUN_DIR)s/config.json
priority=100
; One that is killed, or stopped by anybody but supervisord, is started again at once. One that gives up (1) is left
; EXITED, or FATAL if it keeps doing so within a second: discovery starts it again, ever less often.
autorestart=unexpected
exitcodes=1
startsecs=1
; On TERM a worker finishes the batch that it is sending; a Redis that hangs may take that long to give up on.
stopwaitsecs=30
redirect_stderr=true
stdout_logfile=%(ENV_SHIPPER_LOG)s
stdout_logfile_maxbytes=0
"""
_README = "; One file for each MDT on this server, written by discovery.\n"


class Program(NamedTuple):
    """A program as supervisord sees it: its state's name there (`RUNNING`, `FATAL`, …); `pid` 0 without a process."""

    state: str
    pid: int
    uptime_s: int


def socket_path(run_dir: Path) -> Path:
    """Where supervisord listens."""
    return run_dir / "supervisor.sock"


class Supervisor:
    """The supervisord that listens in `run_dir`, of the shipper on `state_dir`.

    Every method raises `SupervisorError`: `NotRunning` without a shipper, `ControlLost` if there is one all the same.
    """

    def __init__(self, run_dir: Path, state_dir: Path) -> None:
        self._lock_path = state_dir / SHIPPER_LOCK
        self._socket = socket_path(run_dir)
        self._proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._socket))

    def pid(self) -> int:
        """Its process id."""
        return int(self._call("getPID"))

    def is_shutting_down(self) -> bool:
        """Whether it is stopping, or stopping everything for a reload."""
        try:
            self._call("getState")
        except ShuttingDown:
            return True
        return False

    def programs(self) -> dict[str, Program]:
        """Every program, by name; one process each."""
        return {
            info["group"]: Program(info["statename"], info["pid"], max(0, info["now"] - info["start"]))
            for info in self._call("getAllProcessInfo")
        }

    def add(self, names: Iterable[str]) -> None:
        """Read the program files again and start the programs `names`."""
        self._call("reloadConfig")
        for name in names:
            self._call("addProcessGroup", name, ignore=ALREADY_ADDED)

    def start(self, name: str) -> None:
        """Start a program that has ended; does not wait until it runs."""
        self._call("startProcess", f"{name}:{name}", False, ignore=ALREADY_STARTED)

    def stop_and_remove(self, name: str) -> bool:
        """Ask a program to stop, and take it out once it has; False while it still runs: ask again."""
        if self._call("stopProcessGroup", name, False, ignore=BAD_NAME) is None:
            return True
        return self._call("removeProcessGroup", name, ignore=STILL_RUNNING) is not None

    def tell_watching(self, text: str) -> None:
        """Tell supervisord, and so systemd, that the MDTs are being watched, and in `text` which."""
        self._call("sendRemoteCommEvent", WATCHING, text)

    def _call(self, method: str, *args: object, ignore: int | None = None) -> Any:
        """The reply to a method of the `supervisor` namespace; None if it faults with `ignore`."""
        try:
            return getattr(self._proxy.supervisor, method)(*args)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == ignore:
                return None
            if fault.faultCode == SHUTDOWN_STATE:
                raise ShuttingDown(f"supervisord on {self._socket} is shutting down") from None
            raise SupervisorError(f"supervisord refused {method}{args}: {fault.faultString}") from None
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise self._nobody_listens() from None
        except PermissionError:
            raise SupervisorError(f"not allowed to talk to supervisord on {self._socket}", "run it as root") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError) as error:
            raise SupervisorError(f"supervisord on {self._socket} did not answer {method}: {error}") from None

    def _nobody_listens(self) -> SupervisorError:
        nobody = f"nobody listens on {self._socket}"
        try:
            shipper = holder(self._lock_path)
        except OSError as error:
            message = f"{nobody}, and whether a shipper runs cannot be seen: cannot read {self._lock_path}"
            return SupervisorError(f"{message}: {error.strerror}", "run it as root")
        if shipper is None or shipper.remark == ONCE:
            return NotRunning(f"supervisord is not running ({nobody})")
        return ControlLost(
            f"hsm-action-shipper runs (pid {shipper.pid}), but {nobody}: it is starting or stopping, or somebody has "
            "removed the socket, and workers go on without control",
            f"a running one listens again within 10 s; if not, see its log, then kill {shipper.pid} and start it again",
        )


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket. supervisor's own transport has no time limit: a stopped supervisord hangs it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002 - the base class's
        return _UnixConnection(self._path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=REPLY_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ProgramFiles:
    """The folder `mdt.d` in `run_dir`: a program for each MDT, all of which supervisord includes.

    Methods raise `SupervisorError` if the folder cannot be used.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "mdt.d"

    def empty(self) -> None:
        """Remove what an earlier run has left: supervisord would start it, and one bad file would stop it."""
        with _translated("empty", self.folder):
            if self.folder.is_symlink():
                self.folder.unlink()  # what it leads to is somebody else's
            elif self.folder.exists():
                for path in self.folder.iterdir():
                    path.unlink()
                self.folder.rmdir()  # made anew, it is ours, and nobody else may write there
        self.make()

    def make(self) -> None:
        """Make the folder, if it is not there."""
        with _translated("make", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # supervisord warns about a pattern that finds nothing.
            write_whole(self.folder / "README.conf", _README.encode(), 0o640)

    def written(self) -> dict[str, str]:
        """The programs that are there, by MDT."""
        programs = {}
        for path in self.folder.glob(f"{WORKER_PREFIX}*.conf"):
            with _translated("read", path):
                # What somebody left there that is no text is not what is wanted, and so is put right.
                text = path.read_text(encoding="utf-8", errors="replace")
                programs[path.stem.removeprefix(WORKER_PREFIX)] = text
        return programs

    def write(self, programs: Mapping[str, str]) -> None:
        """Put the programs of MDTs there, whole or not at all: half a file would keep supervisord from starting."""
        if not self.folder.exists():  # somebody has removed it
            self.make()
        for mdt, text in programs.items():
            path = self._path(mdt)
            with _translated("write", path):
                write_whole(path, text.encode(), 0o640)

    def remove(self, mdt: str) -> None:
        """Remove the program of `mdt`, if it is there."""
        with _translated("remove", self._path(mdt)):
            self._path(mdt).unlink(missing_ok=True)

    def _path(self, mdt: str) -> Path:
        return self.folder / f"{WORKER_PREFIX}{mdt}.conf"


@contextmanager
def _translated(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SupervisorError(f"cannot {what} {path}: {error.strerror}", "check the owner of run_dir") from None


def programs_for(mdts: Mapping[str, Path]) -> dict[str, str]:
    """The program files of workers for these MDTs, whose actions files are given."""
    return {mdt: worker_program(mdt, actions) for mdt, actions in mdts.items()}


def worker_program(mdt: str, actions: Path) -> str:
    """The program file of the worker for `mdt`."""
    command = [sys.executable, "-P", "-m", "hsm_shipper.worker.main", "--mdt", mdt, "--actions", str(actions)]
    return _PROGRAM.format(mdt=mdt, prefix=WORKER_PREFIX, command=shlex.join(command).replace("%", "%%"))
