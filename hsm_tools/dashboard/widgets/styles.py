"""Colours of the dashboard: the terminal's own sixteen, so that every palette and the Linux console can show them."""

from __future__ import annotations

from rich.style import Style

PLAIN = Style()
QUIET = Style(dim=True)
STRONG = Style(bold=True)
GOOD = Style(color="green")
ODD = Style(color="yellow")
BAD = Style(color="red", bold=True)
ALARM = Style(color="red", bold=True, reverse=True)
CURSOR = Style(reverse=True)
KEY = Style(bold=True)

# As the tail colours them: only the end of an action is worth a second look.
_OF_STATUS = {
    "SUCCEED": GOOD,
    "FAILED": BAD,
    "CANCELED": ODD,
    "STARTED": Style(color="cyan"),
}


def of_status(status: str) -> Style:
    """By what a status means."""
    return _OF_STATUS.get(status, PLAIN)


def of_difference(difference: int) -> Style:
    """More or fewer than before is no judgement: only that it moves is shown."""
    return STRONG if difference else PLAIN
