"""Says when turns are left out: what should be done at every interval is done less often than that."""

from __future__ import annotations

import logging

from hsm_shipper.process.cadence import Cadence
from hsm_shipper.process.log import RepeatedErrors

# Turns that are left out by no more than this are nothing to look after, unless it goes on.
_PASSING_S = 10.0


class Lateness:
    """Looks whether the turns of a program come in time; `turns` names them, and `advice` says what makes them long."""

    def __init__(self, logger: logging.Logger, turns: str, advice: str) -> None:
        self._turns = turns
        self._advice = advice
        self._errors = RepeatedErrors(logger, level=logging.WARNING)

    def look(self, cadence: Cadence) -> None:
        """After a wait: say what was left out until then, at a low rate, and that it is over."""
        key = f"{self._turns} in time"
        if not cadence.left_out:
            self._errors.worked(key)
            return
        if cadence.held_up_s > cadence.took_s:
            why = (
                f"this process was held up for {cadence.held_up_s:.1f} s: was it stopped, or is the server overloaded?"
            )
        else:
            why = f"the last one took {cadence.took_s:.1f} s: {self._advice}"
        text = f"{self._turns} left out: {cadence.left_out}; {why}"
        self._errors.failed(key, text, passing=cadence.late_s < _PASSING_S)
