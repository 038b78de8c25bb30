"""Standard output and error of every command: a closed pipe, a full disk, an encoding that lacks a letter.

What cannot be written to standard output ends a command, as with any filter. What cannot be said on standard error
changes nothing: the exit status tells it.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import IO, Any

from hsm_shipper.errors import HsmError

EXIT_BROKEN_PIPE = 141
LOOK_FOR_READER_S = 1.0
"""How often to ask `nobody_reads`: as long as nothing is printed, nothing fails."""
SHIPPER = "hsm-action-shipper"


class OutputError(HsmError):
    """Standard output takes nothing more: a full disk."""


def print_out(text: str) -> None:
    """Print `text` and flush it; a closed pipe is `BrokenPipeError`, everything else that fails an `OutputError`."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_stdout()
        raise OutputError(
            f"cannot write to standard output: {error.strerror}", "make room, or send it elsewhere"
        ) from None


def nobody_reads() -> bool:
    """Whether standard output is a pipe or a socket that nobody reads from any more, without writing to it."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # poll(2) tells POLLERR of such a pipe, and POLLHUP of such a socket
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class OutputLines:
    """Lines printed while something is done that must come to its end, whether or not anybody reads them."""

    def __init__(self) -> None:
        self._error: BrokenPipeError | OutputError | None = None

    def print_out(self, text: str) -> None:
        """Print `text`; after a failure nothing more."""
        if self._error is not None:
            return
        try:
            print_out(text)
        except (BrokenPipeError, OutputError) as error:
            give_up_stdout()
            self._error = error

    def finish(self) -> None:
        """Raise what printing failed with, if it did."""
        if self._error is not None:
            raise self._error


def print_err(line: str) -> None:
    """Say one line on standard error, if anybody takes it."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        give_up_stderr()


def say(text: str, program: str = SHIPPER) -> None:
    """Say one line on standard error: the program's name, then `text` with nothing that a terminal could obey."""
    print_err(f"{program}: {printable(text)}")


def printable(text: str) -> str:
    r"""`text` with every character that is not plainly visible written as an escape: `\x1b`, `\u202e`, `\udc80`.

    That covers control characters, newlines, bidirectional and other format characters, blanks other than the space,
    lone surrogates, and what Unicode has not assigned. Backslashes stay as they are: the result is for reading only.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code_point: int) -> str:
    if code_point <= 0xFF:
        return f"\\x{code_point:02x}"
    return f"\\u{code_point:04x}" if code_point <= 0xFFFF else f"\\U{code_point:08x}"


def escape_stdout() -> None:
    """Print what the encoding of standard output lacks as escapes: a name may hold anything."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Let the interpreter flush what is left into nothing when it exits, in place of failing a second time."""
    _give_up(sys.stdout)


def give_up_stderr() -> None:
    """The same for standard error."""
    _give_up(sys.stderr)


def _give_up(stream: IO[str]) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def hold_standard_streams() -> None:
    """Have all three, those that the caller closed (`>&-`) leading nowhere.

    Else the next file or socket that is opened would be what other code takes for standard output.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - the same


class Unfailing(io.FileIO):
    """Takes everything, also what it cannot pass on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def never_fail_at_stderr() -> None:
    """For a daemon: what its standard error does not take is lost, and takes nothing else with it."""
    sys.stderr = io.TextIOWrapper(Unfailing(2, "w", closefd=False), errors="backslashreplace", write_through=True)
