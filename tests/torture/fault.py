"""What a kind of fault is, and how it has to show."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

from tests.torture.brokers import CLUSTER, SENTINELS, SERVER
from tests.torture.site import Host, Site

T = TypeVar("T")


class NotPossible(Exception):
    """The machine does not allow this fault (no root, no compiler), or there is nothing to do it to."""


class Signs(NamedTuple):
    """How a fault shows where it lasts long enough for it: regular expressions, empty where it is not to be seen."""

    line: str = ""
    """In the log."""
    over: str = ""
    """In the log, once it is over."""
    is_said_late: bool = False
    """Whether nobody is left who could say anything while it lasts."""
    status: str = ""
    """In what `hsm-action-shipper status` prints, which then does not end with 0."""
    check: str = ""
    """In what `hsm-action-shipper check` prints, which then does not end with 0."""
    top: str = ""
    """In what `hsm-action-top --run-once` prints."""
    alerts: tuple[str, ...] = ()
    """Whose expressions are true."""


class Kind(NamedTuple):
    """One kind of fault."""

    name: str
    do: Callable[[Site], None]
    signs: Signs = Signs()
    weight: int = 3
    """How often it is done among the others."""
    forgives: bool = False
    """Whether Redis loses by it what it acknowledged, or somebody else writes: what follows of that is healing."""
    flaps: bool = False
    """Whether it comes and goes, so that the log may have a line for each poll."""
    may_crash: bool = False
    """Whether its process may end with a traceback: there is nothing left to do better with."""
    may_pass: bool = False
    """Whether it may do nothing that anybody could notice, even where it lasts."""
    on: Collection[str] = (SERVER, SENTINELS, CLUSTER)
    """What the site has to ship to."""


def any_host(site: Site) -> Host:
    """One of the hosts."""
    return site.hosts[site.rng.choice(sorted(site.hosts))]


def serving_host(site: Site) -> Host:
    """One of the hosts that have an MDT: where it ends, somebody misses it."""
    return site.hosts[site.rng.choice(sorted(set(site.home.values())))]


def send(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a process, if it is still there; raises `NotPossible` without one."""
    if pid is None:
        raise NotPossible
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def broker_of(site: Site, kind: type[T]) -> T:
    """What the site ships to, which is one of those."""
    assert isinstance(site.broker, kind)
    return site.broker
