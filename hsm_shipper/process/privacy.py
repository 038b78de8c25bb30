"""What this process makes and knows stays with its user: modes of files, core dumps, and the environment."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping
from pathlib import Path

from hsm_shipper.config import ENV_PREFIX

# What is written names files by their FIDs, and some of it supervisord runs: nothing for other users, not even to read.
_UMASK = 0o027
_MAP_FIELDS = 47  # of /proc/self/stat behind the name, counted from 0: env_start, then env_end (proc_pid_stat(5))


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


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that is not ours."""
    return {name: value for name, value in environ.items() if not name.startswith(ENV_PREFIX)}


def _wipe(prefix: bytes) -> None:
    """Overwrite the values of variables that begin so, where the kernel has put them at the last exec(2)."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:  # then nobody else can look, either
        return
    begin, end = map(int, fields[_MAP_FIELDS:][:2])
    for variable in ctypes.string_at(begin, end - begin).split(b"\0") if begin else ():
        name, equals, value = variable.partition(b"=")
        if equals and name.startswith(prefix):
            ctypes.memset(begin + len(name) + 1, 0, len(value))
        begin += len(variable) + 1
