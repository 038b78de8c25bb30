"""What a tool says on standard error: its own remarks, and the log of the modules that it uses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hsm_shipper.process.output import print_err
from hsm_tools.command.text import printable

if TYPE_CHECKING:  # imported late: --help logs nothing
    import logging


_KEPT_MAX = 10


class Remarks:
    """Says one line at a time, with the program's name before it and nothing in it that a terminal could obey."""

    def __init__(self, program: str) -> None:
        self._program = program

    def say(self, text: str) -> None:
        """Write one line."""
        print_err(f"{self._program}: {printable(text)}")

    def log(self) -> logging.Handler:
        """From now on say what the tools' modules log."""
        import logging

        say = self.say

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                say(self.format(record))

        logger = logging.getLogger("hsm_tools")
        handler = Handler()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        return handler

    @contextmanager
    def errors_afterwards(self) -> Iterator[None]:
        """Within the block the terminal is not ours to write on: the last errors that are logged are said behind it."""
        import logging

        kept: deque[str] = deque(maxlen=_KEPT_MAX)

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                kept.append(self.format(record))

        handler = Handler(logging.ERROR)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger = logging.getLogger("hsm_tools")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            for text in kept:
                self.say(text)
