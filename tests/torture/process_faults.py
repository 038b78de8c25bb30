"""Faults of processes: killed, stopped, without descriptors or memory."""

from __future__ import annotations

import contextlib
import resource
import signal
import time

from tests.support.waiting import eventually
from tests.torture.fault import Kind, NotPossible, Signs, any_host, send, serving_host
from tests.torture.site import Host, Site

_SILENT = ("HsmShipperSilent",)


def kill_worker(site: Site) -> None:
    """At any moment of a poll."""
    _kill(site, "worker")


def _kill_discovery(site: Site) -> None:
    _kill(site, "discovery")


def _kill_maintenance(site: Site) -> None:
    _kill(site, "maintenance")


def _kill(site: Site, kind: str) -> None:
    time.sleep(site.rng.uniform(0, 0.5))
    send(any_host(site).pid_of(kind, site.rng), signal.SIGKILL)


def _kill_supervisord(site: Site) -> None:
    """And start another at once, over orphans that live on until the kernel's death signal reaches them."""
    host = serving_host(site)
    host.stop(signal.SIGKILL)
    if site.is_held:
        site.last(0, 0)
    _begin_over_orphans(host)


def _begin_over_orphans(host: Host) -> None:
    for _ in range(50):  # one that finds the lock held says so and ends; systemd would start it again
        try:
            host.begin()
            return
        except AssertionError:
            time.sleep(0.2)
    raise AssertionError(f"the shipper does not start over its orphans: {host.log.read_text()[-2000:]}")


def _kill_everything(site: Site) -> None:
    host = serving_host(site)
    for pid in host.processes():
        send(pid, signal.SIGKILL)
    host.wait_end()
    eventually(lambda: not host.processes())
    if site.is_held:
        site.last(0, 0)
    host.begin()


def _restart(site: Site) -> None:
    host = any_host(site)
    host.stop(signal.SIGTERM)
    host.begin()


def _pause_worker(site: Site) -> None:
    _pause(site, "worker")


def _pause_discovery(site: Site) -> None:
    _pause(site, "discovery")


def _pause_maintenance(site: Site) -> None:
    _pause(site, "maintenance")


def _pause_supervisord(site: Site) -> None:
    _pause(site, "supervisord")


def _pause(site: Site, kind: str) -> None:
    pid = any_host(site).pid_of(kind, site.rng)
    send(pid, signal.SIGSTOP)
    try:
        site.last(0.3, 2.5)
    finally:
        send(pid, signal.SIGCONT)


def _limit(site: Site, what: int, least: int) -> None:
    pid = any_host(site).pid_of("worker", site.rng)
    if pid is None:
        raise NotPossible
    try:
        before = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (least, before[1]))
    except (ProcessLookupError, PermissionError):
        raise NotPossible from None
    site.last(1.5, 1.5, seconds=20)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, what, before)


def _few_descriptors(site: Site) -> None:
    _limit(site, resource.RLIMIT_NOFILE, 4)


def _little_memory(site: Site) -> None:
    _limit(site, resource.RLIMIT_AS, 16 * 1024 * 1024)


_KILLED = "the one before was killed, not stopped"

KINDS = [
    Kind(
        "kill -9 of a worker",
        kill_worker,
        Signs(line="exited: mdt-.*SIGKILL", over="success: mdt-.* entered RUNNING"),
        weight=12,
    ),
    Kind(
        "kill -9 of discovery",
        _kill_discovery,
        Signs(line="exited: discovery.*SIGKILL", over="success: discovery entered RUNNING"),
        weight=6,
    ),
    Kind(
        "kill -9 of maintenance",
        _kill_maintenance,
        Signs(line="exited: maintenance.*SIGKILL", over="success: maintenance entered RUNNING"),
        weight=6,
    ),
    Kind(
        "kill -9 of supervisord, started over live orphans",
        _kill_supervisord,
        Signs(_KILLED, "watching .* every", is_said_late=True, status="nobody listens", alerts=_SILENT),
        weight=2,
    ),
    Kind(
        "kill -9 of everything on a host",
        _kill_everything,
        Signs(_KILLED, "watching .* every", is_said_late=True, status="nobody listens", alerts=_SILENT),
        weight=2,
    ),
    Kind("stop and start in good order", _restart, Signs(line="stopped", over="watching .* every"), weight=2),
    Kind(
        "SIGSTOP of a worker",
        _pause_worker,
        Signs(
            line="polls left out: ",
            over="polls in time: recovered after",
            is_said_late=True,
            status="no poll for a long time",
            top="last poll .* ago",
            alerts=("HsmPollOld", *_SILENT),
        ),
    ),
    Kind(
        "SIGSTOP of discovery",
        _pause_discovery,
        Signs(
            line="looks at MDTs left out: ",
            over="looks at MDTs in time: recovered after",
            is_said_late=True,
            status="discovery has not looked for",
        ),
        weight=1,
    ),
    Kind(
        "SIGSTOP of maintenance",
        _pause_maintenance,
        Signs(
            line="looks at streams left out: ",
            over="looks at streams in time: recovered after",
            is_said_late=True,
            status="maintenance has not looked for",
        ),
        weight=1,
    ),
    Kind(
        "SIGSTOP of supervisord",
        _pause_supervisord,
        Signs(
            line="supervisord .* did not answer",
            over="supervisord: recovered after",
            status="did not answer",
            check="did not answer",
        ),
        weight=1,
    ),
    Kind(
        "no descriptor left",
        _few_descriptors,
        Signs(line="Too many open files|unable to open", over="recovered after", status="last poll failed"),
        may_crash=True,  # one that has just begun cannot even read what it is made of
    ),
    Kind(
        "no memory left",
        _little_memory,
        Signs(line="exited: mdt-|MemoryError|memory"),
        may_crash=True,
        may_pass=True,
    ),
]
