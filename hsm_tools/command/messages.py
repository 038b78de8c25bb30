"""What a tool says on standard error: its own remarks, and the log of the modules that it uses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hsm_shipper.process.output import say

if TYPE_CHECKING:  # imported late: --help logs nothing
    import logging


_KEPT_MAX = 10


class Remarks:
    """Says one line at a time, with the program's name before it and nothing in it that a terminal could obey."""

    def __init__(self, program: str) -> None:
        self._program = program

    def say(self, text: str) -> None:
        """Write one line."""
        say(text, self._program)

    def log(self) -> logging.Handler:
        """From now on say what the tools' modules log."""
        import logging

        logging.getLogger("hsm_tools").setLevel(logging.INFO)
        return _add_handler(self.say)

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
