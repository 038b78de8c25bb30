"""Standard output of a tool, which may be a pipe that closes or a file on a full disk."""

from __future__ import annotations

import io
import os
import sys

from hsm_shipper.errors import HsmError


def print_out(text: str) -> None:
    """Print `text` and flush it; a closed pipe is `BrokenPipeError`, everything else that fails an `HsmError`."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_stdout()
        raise HsmError(
            f"cannot write to standard output: {error.strerror}", "make room, or send it elsewhere"
        ) from None


def escape_stdout() -> None:
    """Print what the encoding of standard output lacks as escapes: a name may hold anything."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Let the interpreter flush what is left into nothing when it exits, in place of failing a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
