"""What discovery does next, as functions of what it sees: no files, no processes, no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from hsm_shipper.process.backoff import backoff_s
from hsm_shipper.supervision.supervisord import Program

_ENDED = frozenset({"FATAL", "EXITED", "UNKNOWN"})
_SETTLED = frozenset({"RUNNING", "STOPPED"})  # STOPPED: by an operator, who will start it again

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
# A worker that ran for so long had no trouble starting: the next one that ends is started after FIRST_DELAY_S again.
FORGIVEN_AFTER_S = 60.0


class Seen(NamedTuple):
    """One look at everything, by MDT.

    `wanted` is the program that each MDT present should have; `complete` is False if some folder could not be read,
    so that an MDT missing from `wanted` may be present all the same. `written` are the program files, `running` the
    programs that supervisord has, `stored` the MDTs with a state file.
    """

    wanted: Mapping[str, str]
    complete: bool
    written: Mapping[str, str]
    running: Mapping[str, Program]
    stored: Set[str]


class Plan(NamedTuple):
    """MDTs whose program is to be added, stopped and removed, or started again, and whose state is to be forgotten."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    restart: tuple[str, ...]
    forget: tuple[str, ...]


def decide(seen: Seen, due: Set[str]) -> Plan:
    """What brings `seen` to what is wanted; of the programs that have ended, only those in `due` start again."""
    remove = {mdt for mdt in seen.running if _must_go(seen, mdt)}
    gone = seen.stored - seen.wanted.keys() - seen.running.keys() if seen.complete else frozenset[str]()
    return Plan(
        add=tuple(sorted(seen.wanted.keys() - seen.running.keys())),
        remove=tuple(sorted(remove)),
        restart=tuple(sorted((due & seen.wanted.keys() & seen.running.keys()) - remove)),
        forget=tuple(sorted(gone)),
    )


def _must_go(seen: Seen, mdt: str) -> bool:
    """Whether the program of `mdt` must be removed: its MDT has left, or it is not the program that is wanted.

    A removal begins with the program file, so a program without one was on its way out when we last looked; should
    its MDT be back already, it is added afresh once it is gone.
    """
    if mdt not in seen.written:
        return True
    if mdt in seen.wanted:
        return seen.wanted[mdt] != seen.written[mdt]
    return seen.complete


def is_settled(running: Mapping[str, Program]) -> bool:
    """Whether nothing is about to change by itself: no program is starting, ending, failing or being given up on."""
    return all(program.state in _SETTLED for program in running.values())


@dataclass
class _Restarts:
    so_far: int = 0
    start_at: float | None = None
    running_since: float | None = None


class RestartBackoff:
    """When a program that has ended may start again: after 1, 2, 4 … 60 seconds. One instance a process."""

    def __init__(self) -> None:
        self._by_mdt: dict[str, _Restarts] = {}

    def due(self, running: Mapping[str, Program], now: float) -> frozenset[str]:
        """The MDTs whose program is to start again at `now` (monotonic seconds); the caller does start them."""
        for mdt in self._by_mdt.keys() - running.keys():
            del self._by_mdt[mdt]
        return frozenset(mdt for mdt, program in running.items() if self._is_due(mdt, program, now))

    def _is_due(self, mdt: str, program: Program, now: float) -> bool:
        if program.state in _ENDED:
            restarts = self._by_mdt.setdefault(mdt, _Restarts())
            restarts.running_since = None
            if restarts.start_at is None:
                restarts.start_at = now + backoff_s(restarts.so_far + 1, FIRST_DELAY_S, LONGEST_DELAY_S)
            if now < restarts.start_at:
                return False
            restarts.so_far += 1
            restarts.start_at = None
            return True
        if mdt in self._by_mdt:
            self._forgive(mdt, self._by_mdt[mdt], program, now)
        return False

    def _forgive(self, mdt: str, restarts: _Restarts, program: Program, now: float) -> None:
        if program.state != "RUNNING":
            restarts.running_since = None
        elif restarts.running_since is None:
            restarts.running_since = now
        elif now - restarts.running_since >= FORGIVEN_AFTER_S:
            del self._by_mdt[mdt]
