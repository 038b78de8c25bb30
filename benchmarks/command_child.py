"""A child that runs a command of the tools as people do.

python -m benchmarks.command_child stats|top CONFIG [OPTION…]
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from benchmarks.child import BenchmarkError, serve

_LIVE = b"Listening for live updates"
_BIN = Path(sys.executable).parent


def main(command: str, config_file: str, *options: str) -> None:
    """For each line of standard input, `stats`: a report, start to end; `top`: up to its first live frame."""
    arguments = ["-c", config_file, *options]
    serve({"stats": lambda: _stats(arguments), "top": lambda: _top(arguments)}[command])


def _stats(arguments: list[str]) -> None:
    subprocess.run([str(_BIN / "hsm-stream-stats"), *arguments], stdout=subprocess.DEVNULL, check=True)


def _top(arguments: list[str]) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    command = [str(_BIN / "hsm-action-top"), *arguments]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True) as top:
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:  # EIO is its end
            while _LIVE not in shown and (some := terminal.read(65_536)):
                shown = shown[-len(_LIVE) :] + some
            top.kill()
    if _LIVE not in shown:
        raise BenchmarkError("hsm-action-top ended before it was live")


if __name__ == "__main__":
    main(*sys.argv[1:])
