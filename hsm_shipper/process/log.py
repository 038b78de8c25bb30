"""Logging of every process under supervisord: to stderr, which supervisord collects into the one log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError
from hsm_shipper.process.output import give_up_stderr, printable

# supervisord's own lines begin the same way, so that the one log can be read and sorted as one.
_FORMAT = "%(asctime)s %(levelname)s {program}: %(message)s"

REPEAT_INTERVAL_S = 300.0
_PASSING_TIMES = 3
_PASSING_S = 60.0


def setup(program: str, config: Config) -> None:
    """Log to stderr as `2026-11-22 13:00:00,123 INFO <program>: text`, from `config.log_level` up."""
    handler = _Stderr(sys.stderr)
    handler.setFormatter(_OneLine(_FORMAT.format(program=program.replace("%", "%%"))))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level)


def our_fault(logger: logging.Logger, what: str, error: Exception) -> HsmError:
    """Say, with its traceback, what is being handled and should not be possible; returns it as an error of ours."""
    logger.exception("%s: an error that should not be possible: please report it with these lines", what)
    return HsmError(f"{type(error).__name__}: {error}")


class _Stderr(logging.StreamHandler[TextIO]):
    """What standard error does not take any more is not worth a traceback, to standard error at that."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):
            give_up_stderr()
        else:
            super().handleError(record)


class _OneLine(logging.Formatter):
    """Keeps a record one line and its control characters harmless: names and errors come from outside.

    Only a traceback takes more lines, which are as harmless.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


@dataclass
class _Failing:
    since: float
    last_said: float
    is_error: bool
    times: int = 1


class RepeatedErrors:
    """Says an error when it first happens, then at a low rate while it goes on, then that it is over.

    One instance a process; errors of one cause share a key. Times are the monotonic clock's, in seconds.
    """

    def __init__(
        self,
        logger: logging.Logger,
        repeat_interval_s: float = REPEAT_INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
        level: int = logging.ERROR,
    ) -> None:
        self._logger = logger
        self._level = level
        self._repeat_interval_s = repeat_interval_s
        self._monotonic = monotonic
        self._failing: dict[str, _Failing] = {}

    def failed(self, key: str, message: object, *, passing: bool = False) -> None:
        """Another failure of `key`: logged if it is the first, or the last one logged is long ago.

        One that mostly passes by itself is no error at first, but once it has lasted for three times or a minute.
        """
        now = self._monotonic()
        failing = self._failing.get(key)
        if failing is None:
            self._failing[key] = _Failing(now, now, is_error=not passing)
            self._logger.log(logging.INFO if passing else self._level, "%s", message)
            return
        failing.times += 1
        lasts = not passing or failing.times >= _PASSING_TIMES or now - failing.since >= _PASSING_S
        if (lasts and not failing.is_error) or now - failing.last_said >= self._repeat_interval_s:
            failing.last_said, failing.is_error = now, True
            text = "%s (still; %d times in %.0f s)"
            self._logger.log(self._level, text, message, failing.times, now - failing.since)

    def worked(self, key: str) -> None:
        """`key` works: logged only if it had failed."""
        failing = self._failing.pop(key, None)
        if failing is not None:
            elapsed_s = self._monotonic() - failing.since
            self._logger.info("%s: recovered after %d failures (%.0f s)", key, failing.times, elapsed_s)

    def forget(self, key: str) -> None:
        """Whether `key` works is nobody's business any more: should it come back, it begins anew."""
        self._failing.pop(key, None)
