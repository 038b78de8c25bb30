"""Every error this project raises on purpose.

    HsmError
    ├── ConfigError            a configuration file, variable or command line that cannot be used
    ├── AlreadyRunning         a lock that another process of this family holds
    │   └── LockHeld           the lock in Redis of a stream's maintenance
    ├── CalledOff              no need to go on: this process is to stop, or the MDT has left
    ├── SupervisorError        supervisord did not answer, or not as it should
    │   ├── NotRunning         there is none
    │   ├── ControlLost        a shipper lives, but nobody can reach its supervisord
    │   └── ShuttingDown       it is stopping, and takes no more orders
    ├── ActionsError           an actions file that cannot be read to its end: nothing is purged on it
    ├── StateError             the state file of an MDT
    │   ├── StateCorrupt       it is not a database, or a damaged one: set aside and rebuilt from the stream
    │   ├── StateTooNew        a newer release wrote it: never touched
    │   ├── StateUnwritable    no room, no permission, a read-only file system, an I/O error
    │   └── StateChanged       another process committed to it meanwhile: reload, then go on
    ├── StreamError            a stream in Redis
    │   ├── StreamUnavailable  no server, or none that answered in time: tried again at the next poll
    │   ├── StreamRefused      the server answered no: permissions, memory, a read-only replica, a wrong type
    │   ├── StreamNotKept      it took the entries, and too few replicas or disks have them: not committed, tried again
    │   ├── StreamMoved        it is not where it was left (another writer, a lost reply, a flush): catch up
    │   │   ├── EntriesLost    it ends there, but entries before that are gone: read it from its beginning
    │   │   └── StreamBehind   it ends before what is known of it: another server, which changes nothing that is known
    │   ├── LockLost           the lock of its maintenance expired or was taken away: the run ends where it stands
    │   └── ReplayOvertaken    what was being read was trimmed away meanwhile: start the replay again
    ├── OutboxFull             what Redis does not take has no room in the state file either: it is counted
    └── MalformedEvent         a stream entry that says nothing we can use: counted and passed over

Each says what was tried, on what, and in `hint` what to do. Exceptions of sqlite3, redis and supervisor are
translated where they first reach our code (`state.database`, `stream`, `supervision.supervisord`) and nowhere else.
"""

import errno
from typing import TypeVar

# ProtectHome= and PrivateTmp= of the units in deploy/systemd.
_UNSEEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")


def with_advice(text: str, advice: str) -> str:
    """What is wrong and what to do about it, in one line: servers and libraries end their words with a full stop."""
    clause = text if text.endswith("..") else text.removesuffix(".")
    return f"{clause}; {advice}" if advice else clause


def writing_hint(error: OSError, otherwise: str) -> str:
    """What to do where a file cannot be written: `otherwise`, unless its file system is read-only to this process."""
    if error.errno != errno.EROFS:
        return otherwise
    return "a service of systemd writes only where its unit lets it: ReadWritePaths= (docs/operations.md)"


def unseen_hint(path: str, otherwise: str) -> str:
    """What to do where a file, or the socket of a Redis, is not found: `otherwise`, and that our units may hide it."""
    if not path.startswith(_UNSEEN):
        return otherwise
    return f"{otherwise} (our services of systemd do not see /home, /root, /run/user and /tmp: docs/operations.md)"


def may_pass(error: OSError) -> bool:
    """Whether it is no fault of a configuration: no room, or an I/O error.

    The command ends with 1 for it, and systemd tries again; what cannot be used (2) waits for a person.
    """
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class HsmError(Exception):
    """Base of the tree: `str()` is one line, what was tried on what, followed by what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(with_advice(message, hint))
        self.message = with_advice(message, "")
        self.hint = hint


class ConfigError(HsmError):
    """A configuration file, environment variable or command line that cannot be used."""


class AlreadyRunning(HsmError):
    """A lock is held by another process: a second shipper on the same folder, or a second worker on an MDT."""


class LockHeld(AlreadyRunning):
    """Another run holds the lock. `retry_after_s`: seconds until it expires, unless it is renewed."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CalledOff(HsmError):
    """There is no need to go on: this process is to stop, or the MDT has left. No failure."""


class SupervisorError(HsmError):
    """supervisord did not answer, or not as it should."""


class NotRunning(SupervisorError):
    """Nobody listens on supervisord's socket."""


class ControlLost(SupervisorError):
    """A shipper lives, but nobody listens on its supervisord's socket: somebody removed it, or it is not up yet."""


class ShuttingDown(SupervisorError):
    """supervisord is stopping or reloading: it answers, and refuses everything."""


class ActionsError(HsmError):
    """The actions file of an MDT cannot be read, or not to its end."""


class StateError(HsmError):
    """The SQLite state file of an MDT."""


class StateCorrupt(StateError):
    """The file is no SQLite database, or a damaged one."""


class StateTooNew(StateError):
    """The file was written by a newer release."""


class StateUnwritable(StateError):
    """The file cannot be written: no room, no permission, a read-only file system, an I/O error, a lock."""


class StateChanged(StateError):
    """Another process committed to the file (maintenance, a person): what was computed from it is void."""


class StreamError(HsmError):
    """A Redis stream."""


class StreamUnavailable(StreamError):
    """No server, or none that answered in time."""


class StreamRefused(StreamError):
    """The server answered, and refused."""


class StreamNotKept(StreamError):
    """The entries are in the stream, but not yet with as many replicas, or on disk, as is asked for."""


class StreamMoved(StreamError):
    """The stream does not end where we left it: what was computed from there is void."""


class EntriesLost(StreamMoved):
    """The stream ends where we left it, but somebody else has trimmed or deleted entries before that."""


class StreamBehind(StreamMoved):
    """The stream ends before what the state file knows of it: the server is a replica, an old primary, a wrong one."""


class LockLost(StreamError):
    """The lock expired or was taken away while it was held: the run must end."""


class ReplayOvertaken(StreamError):
    """A trim removed the entries that a replay was reading."""


class OutboxFull(HsmError):
    """What Redis does not take cannot wait in the state file: the outbox is as large as it may be, or the disk full."""


class MalformedEvent(HsmError):
    """A stream entry that does not decode to an event of the contract."""


Kept = TypeVar("Kept", bound=HsmError)


def to_keep(error: Kept) -> Kept:
    """`error` without its causes and tracebacks, which keep all that the failed calls held while they are there.

    Where one of those calls held what keeps it now, that would be a cycle: nobody knows when the collector finds it,
    and in the middle of what it then ends a reading.
    """
    chain: list[BaseException] = [error]
    while chain:  # a cause may hold itself: from Python 3.12 on, by the frames of the context managers that it passed
        one = chain.pop()
        chain += filter(None, (one.__cause__, one.__context__))
        one.__traceback__ = one.__cause__ = one.__context__ = None
    return error


def unexpected(what: str, error: Exception) -> HsmError:
    """`error` as one of ours, in one line that says enough to find it by: what failed, why, and where in the code.

    Not yet fit for a terminal.
    """
    if isinstance(error, HsmError):
        return HsmError(f"{what}: {error}")
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else f" ({at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno})"
    return HsmError(f"{what}: {type(error).__name__}: {error}{where}", "please report this")
