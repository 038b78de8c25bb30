"""What happens to whole servers: MDTs that move or are on both, services that fail over, slots that move."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.waiting import eventually
from tests.torture.brokers import CLUSTER, SENTINELS, Cluster, Sentinels
from tests.torture.fault import Kind, NotPossible, Signs, broker_of
from tests.torture.site import Site


def _two_hosts(site: Site) -> None:
    """The folder of the MDT is on both for a while."""
    name = site.any_mdt()
    here = site.home[name]
    there = next(host for host in site.hosts if host != here)
    source = site.hosts[here].mds.actions_path(name).parent.parent
    target = site.hosts[there].mds.actions_path(name).parent.parent
    if not source.exists() or target.exists():
        raise NotPossible
    target.symlink_to(source)
    for _ in range(1 if site.is_held else 5):
        site.last(0.6, 0.6)
    target.unlink()


def _fail_over(site: Site) -> None:
    name = site.any_mdt()
    mdt = site.workloads[name].mdt
    there = next(host for host in site.hosts if host != site.home[name])
    mdt.unmount()
    time.sleep(site.rng.uniform(0, 1))
    site.mount(name, there)


def _mount_again(site: Site) -> None:
    name = site.any_mdt()
    mdt = site.workloads[name].mdt
    for _ in range(3):
        mdt.unmount()
        time.sleep(site.rng.uniform(0, 0.7))
        site.mount(name, site.home[name])
        time.sleep(site.rng.uniform(0, 0.7))


def _meanwhile(site: Site) -> Callable[[], None]:
    """For what is done all the time while something is waited for: some actions come and go, twice a second."""
    next_s = time.monotonic()

    def go_on() -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + 0.5
            site.advance(1)

    return go_on


def _switch(site: Site) -> None:
    """Sentinels switch in good order, to the replica; at times back again at once."""
    service = broker_of(site, Sentinels).service
    for _ in range(site.rng.choice((1, 2))):
        service.switch(_meanwhile(site))
        service.restart_dead(_meanwhile(site))


def _lose_primary(site: Site) -> None:
    """The primary is killed, Sentinels make the replica the next one, and it comes back as a replica."""
    service = broker_of(site, Sentinels).service
    before = service.primary
    before.kill()
    site.last(0, 1)
    service.next_after(before, _meanwhile(site))
    service.restart_dead(_meanwhile(site))


def _hang_primary(site: Site) -> None:
    """The primary hangs until there is another one, and comes back believing that nothing has changed."""
    service = broker_of(site, Sentinels).service
    before = service.primary
    before.pause()
    try:
        site.last(0, 1)
        service.next_after(before, _meanwhile(site))
    finally:
        before.resume()
    service.restart_dead(_meanwhile(site))


def _move_slot(site: Site) -> None:
    """To another node while polls go on: nothing of it is there yet, then its keys, then all are told."""
    cluster, key = broker_of(site, Cluster).cluster, f"hsm:actions:{site.any_mdt()}"
    source, target = cluster.begin_move(key)
    for step in (cluster.move_keys, cluster.end_move):
        site.advance()
        time.sleep(site.rng.uniform(0, 1.2))
        step(key, source, target)


def _fail_node_over(site: Site) -> None:
    """In good order: its replica takes the place of the node of a stream."""
    cluster = broker_of(site, Cluster).cluster
    cluster.fail_over(f"hsm:actions:{site.any_mdt()}")
    site.advance()
    cluster.wait_until_whole()


def _lose_node(site: Site) -> None:
    """A node is killed, its replica takes its place, and it comes back as a replica."""
    cluster = broker_of(site, Cluster).cluster
    node = cluster.node_of(f"hsm:actions:{site.any_mdt()}")
    partner = cluster.partner_of(node)
    node.kill()
    site.last(0, 1)
    _wait_until(partner.is_primary, _meanwhile(site))
    cluster.heal()


def _wait_until(is_so: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    """Wait; `meanwhile` is done all the time."""

    def look() -> bool:
        meanwhile()
        return is_so()

    eventually(look, interval_s=0.05)


_NO_PRIMARY = Signs(line="cannot .* stream|the primary is not known|cannot write the heartbeat", over="recovered after")

KINDS = [
    Kind(
        "two hosts with one MDT",
        _two_hosts,
        Signs(line="other hosts wrote", alerts=("HsmTwoServers",)),
        weight=2,
        flaps=True,
    ),
    Kind("a failover", _fail_over, Signs(line="is on this server: worker started", over="caught up with stream")),
    Kind("an MDT that is mounted again and again", _mount_again),
    Kind("Sentinels switch, and back", _switch, on=(SENTINELS,), weight=4),
    Kind("kill -9 of the primary of Sentinels, its return", _lose_primary, _NO_PRIMARY, on=(SENTINELS,), weight=2),
    Kind("a primary of Sentinels that hangs, its return", _hang_primary, _NO_PRIMARY, on=(SENTINELS,), weight=2),
    Kind("a slot of a cluster moves", _move_slot, on=(CLUSTER,), weight=6),
    Kind("a node of a cluster fails over in good order", _fail_node_over, on=(CLUSTER,)),
    Kind(
        "kill -9 of a node of a cluster, its return",
        _lose_node,
        _NO_PRIMARY._replace(status="last poll failed"),
        on=(CLUSTER,),
        weight=2,
    ),
]
