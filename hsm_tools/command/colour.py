"""Colour on a terminal: where it is wanted, and what it means."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

CHOICES = ("auto", "always", "never")

_RESET = "\x1b[0m"
# Only the end of an action is worth a second look; a file that waits or moves is the ordinary thing.
_OF_STATUS = {
    "SUCCEED": "\x1b[32m",
    "FAILED": "\x1b[1;31m",
    "CANCELED": "\x1b[33m",
    "STARTED": "\x1b[36m",
    "PURGED": "\x1b[2m",
}
_QUIET = "\x1b[2m"


class Colours(NamedTuple):
    """Escape sequences to put before and after a text; empty ones where there is to be no colour."""

    is_on: bool

    def of_status(self, status: str) -> tuple[str, str]:
        """By what a status means: green for success, red for failure, yellow for cancelled, cyan for under way."""
        before = _OF_STATUS.get(status, "") if self.is_on else ""
        return before, _RESET if before else ""

    @property
    def quiet(self) -> tuple[str, str]:
        """For what is seldom read."""
        return (_QUIET, _RESET) if self.is_on else ("", "")


PLAIN = Colours(False)


def colours_for_stdout(choice: str, environment: Mapping[str, str]) -> Colours:
    """`always` and `never` as they say; `auto`: on a terminal that has colours, unless NO_COLOR is set."""
    if choice == "auto":
        wanted = not environment.get("NO_COLOR") and environment.get("TERM", "dumb") not in ("", "dumb")
        return Colours(wanted and sys.stdout.isatty())
    return Colours(choice == "always")
