"""A child that runs a command of the tools as people do: `python -m benchmarks.command_child stats|top CONFIG`."""

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


def main(command: str, config_file: str) -> None:
    """For each line of standard input, `stats`: a report, start to end; `top`: up to its first live frame."""
    serve({"stats": lambda: _stats(config_file), "top": lambda: _top(config_file)}[command])


def _stats(config_file: str) -> None:
    subprocess.run([str(_BIN / "hsm-stream-stats"), "-c", config_file], stdout=subprocess.DEVNULL, check=True)


def _top(config_file: str) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    command = [str(_BIN / "hsm-action-top"), "-c", config_file]
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
