"""What a tool says on standard error: its own remarks, and the log of the modules that it uses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hsm_shipper.process.output import say
from hsm_shipper.process.termination import uninterrupted

if TYPE_CHECKING:  # imported late: --help logs nothing
    import logging


_KEPT_MAX = 10
_SILENT = 100  # above every level


class Remarks:
    """Says one line at a time, with the program's name before it and nothing in it that a terminal could obey."""

    def __init__(self, program: str) -> None:
        self._program = program

    def say(self, text: str) -> None:
        """Write one line."""
        say(text, self._program)

    @contextmanager
    def log_to_the_end(self) -> Iterator[None]:
        """Within the block say what the tools' modules log; behind it this process ends, and nothing interrupts it."""
        import logging

        logging.getLogger("hsm_tools").setLevel(logging.INFO)
        handler = _add_handler(self.say)
        try:
            yield
        finally:
            uninterrupted()
            handler.setLevel(_SILENT)  # removed, it would leave what is logged to Python's last resort

    @contextmanager
    def errors_afterwards(self) -> Iterator[None]:
        """Within the block the terminal is not ours to write on: the last errors that are logged are said behind it."""
        import logging

        kept: deque[str] = deque(maxlen=_KEPT_MAX)
        handler = _add_handler(kept.append, logging.ERROR)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        try:
            yield
        finally:
            logging.getLogger("hsm_tools").removeHandler(handler)
            for text in kept:
                self.say(text)


def _add_handler(take: Callable[[str], None], level: int = 0) -> logging.Handler:
    """Have `take` called with every line that the tools' modules log."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            take(self.format(record))

    handler = Handler(level)
    logging.getLogger("hsm_tools").addHandler(handler)
    return handler
