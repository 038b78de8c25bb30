"""What this process makes and knows stays with its user: modes of files, core dumps, and the environment."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping
from pathlib import Path

from hsm_shipper.config import ENV_PREFIX

# What is written names files by their FIDs, and some of it supervisord runs: other users may not even read it.
_UMASK = 0o027
# Fields of /proc/self/stat behind the name, from 0: where they begin; the next is where they end (proc_pid_stat(5)).
_ARGUMENTS, _ENVIRONMENT = 45, 47


def keep_private() -> int:
    """Have all that is made be its user's, and its group's to read; a umask that is stricter stays. Returns the umask.

    The kernel writes no memory to disk should we crash, nor that of programs that we start: the password of Redis is in
    it. An administrator who needs it allows it: `prlimit --core=unlimited --pid PID`.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    umask = os.umask(0o777) | _UMASK
    os.umask(umask)
    return umask


def forget_configuration() -> None:
    """Take the configuration's variables, once loaded, out of the environment: `HSM_REDIS_URL` may hold a password.

    Programs that we start have it from a file that only their user reads. What this process itself was started with
    is wiped out as well: /proc/PID/environ shows the memory that it was put into, whatever became of it since.
    """
    names = [name for name in os.environ if name.startswith(ENV_PREFIX)]
    for name in names:
        del os.environ[name]
    if names:
        _wipe(ENV_PREFIX.encode())


def hide_argument(text: str) -> None:
    """Have `ps` show as many x in the place of an argument of this process, as long as it runs."""
    begin, memory = _memory_at(_ARGUMENTS)
    at = memory.find(argument := os.fsencode(text))
    if at >= 0:
        ctypes.memset(begin + at, ord("x"), len(argument))


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that is not ours."""
    return {name: value for name, value in environ.items() if not name.startswith(ENV_PREFIX)}


def _wipe(prefix: bytes) -> None:
    """Overwrite the values of variables that begin so, where the kernel has put them at the last exec(2)."""
    begin, memory = _memory_at(_ENVIRONMENT)
    for variable in memory.split(b"\0"):
        name, equals, value = variable.partition(b"=")
        if equals and name.startswith(prefix):
            ctypes.memset(begin + len(name) + 1, 0, len(value))
        begin += len(variable) + 1


def _memory_at(field: int) -> tuple[int, bytes]:
    """Where the kernel has put the arguments or the environment, and what stands there; 0 and nothing if unknown."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:  # then nobody else can look, either
        return 0, b""
    begin, end = map(int, fields[field : field + 2])
    return begin, ctypes.string_at(begin, end - begin) if begin else b""
