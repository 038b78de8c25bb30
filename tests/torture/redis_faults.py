"""Faults of a server, of the way to it, and of those who also write to it."""

from __future__ import annotations

import shutil
import time

from hsm_shipper.contract.stream_ids import pack_id
from tests.torture.brokers import SERVER, OneServer
from tests.torture.fault import Kind, NotPossible, Signs, broker_of
from tests.torture.site import Site


def _kill_redis(site: Site) -> None:
    server = broker_of(site, OneServer).server
    server.kill()
    site.last(0, 1.5)
    server.start()


def _pause_redis(site: Site) -> None:
    server = broker_of(site, OneServer).server
    server.pause()
    try:
        site.last(0.5, 3)
    finally:
        server.resume()


def _delay(site: Site) -> None:
    proxy = broker_of(site, OneServer).proxy
    # A poll that has anything to say waits for several replies.
    proxy.delay_s = 0.4 if site.is_held else site.rng.uniform(0.02, 0.4)
    site.last(2, 2)
    proxy.delay_s = 0


def _cut(site: Site) -> None:
    proxy = broker_of(site, OneServer).proxy
    if site.is_held:
        proxy.cuts = 0.5
        site.last(0, 0)
        proxy.cuts = 0
        return
    for _ in range(site.rng.randint(1, 6)):
        proxy.cut()
        site.last(0, 0.6, seconds=1)


def _swallow(site: Site) -> None:
    proxy = broker_of(site, OneServer).proxy
    proxy.swallows = 0.3 if site.is_held else site.rng.choice((0.1, 0.3, 0.6))
    for _ in range(1 if site.is_held else 3):
        site.last(0.7, 0.7)
    proxy.swallows = 0


def _fill_redis(site: Site) -> None:
    site.client.config_set("maxmemory", "1mb")
    site.last(0.8, 2.5)
    site.client.config_set("maxmemory", "0")


def _demote_redis(site: Site) -> None:
    """A replica of nobody for a while: a failover without one to take over."""
    site.client.replicaof("127.0.0.1", "1")
    site.last(0.8, 2)
    broker_of(site, OneServer).server.promote()


def _flush_redis(site: Site) -> None:
    site.client.flushall()


def _roll_back_redis(site: Site) -> None:
    """Redis comes back with what it held some polls ago."""
    server, older = broker_of(site, OneServer).server, site.folder / "older"
    server.stop()
    shutil.rmtree(older, ignore_errors=True)
    shutil.copytree(server.folder, older)
    server.start()
    for _ in range(2):
        site.advance()
        time.sleep(0.7)
    server.kill()
    shutil.rmtree(server.folder)
    shutil.copytree(older, server.folder)
    server.start()


def _trim_by_hand(site: Site) -> None:
    left = 0 if site.is_held else site.rng.choice((0, 1, 50))
    site.client.xtrim(f"hsm:actions:{site.any_mdt()}", maxlen=left, approximate=False)


def _delete_by_hand(site: Site) -> None:
    key = f"hsm:actions:{site.any_mdt()}"
    ids = sorted((entry_id for entry_id, _ in site.client.xrange(key) or []), key=pack_id)
    if not ids:
        raise NotPossible
    some = ids if site.is_held else site.rng.sample(ids, min(len(ids), site.rng.choice((1, 5))))
    site.client.xdel(key, *some)


def _write_by_hand(site: Site) -> None:
    for _ in range(3):
        site.client.xadd(f"hsm:actions:{site.any_mdt()}", {"data": site.rng.choice(("{}", "x", "[]"))})
    if site.is_held:
        site.last(0, 0)


_FAILS = Signs(
    line="cannot .* stream",
    over="Redis: recovered after",
    status="last poll failed",
    check="cannot reach",
)
_FLAPS = _FAILS._replace(check="", alerts=("HsmPollsFailOften",))
_LOST = "has lost entries that somebody else trimmed or deleted|ends at|has another newest entry"

KINDS = [
    Kind("kill -9 of Redis", _kill_redis, _FAILS._replace(alerts=("HsmRedisDown",)), weight=4, on=(SERVER,)),
    Kind("SIGSTOP of Redis", _pause_redis, _FAILS._replace(alerts=("HsmRedisDown",)), on=(SERVER,)),
    Kind(
        "a proxy that delays",
        _delay,
        Signs(
            line="polls left out: .* the last one took",
            over="polls in time: recovered after",
            status="longer than poll_interval",
            check="longer than poll_interval",
            top="longer than poll_interval",
            alerts=("HsmPollsTakeLong",),
        ),
        on=(SERVER,),
    ),
    Kind("a proxy that cuts", _cut, _FLAPS, weight=4, flaps=True, on=(SERVER,)),
    Kind("a proxy that swallows replies", _swallow, _FLAPS, weight=4, flaps=True, on=(SERVER,)),
    Kind(
        "maxmemory reached",
        _fill_redis,
        _FAILS._replace(line="maxmemory", check="it is full", top="last poll .* ago", alerts=("HsmPollOld",)),
        on=(SERVER,),
    ),
    Kind(
        "Redis turned into a replica and back",
        _demote_redis,
        _FAILS._replace(
            line="read only replica", check="it is a replica of", top="last poll .* ago", alerts=("HsmPollOld",)
        ),
        on=(SERVER,),
    ),
    Kind("Redis flushed", _flush_redis, Signs("ends at", "caught up with stream"), forgives=True, on=(SERVER,)),
    Kind(
        "Redis rolled back",
        _roll_back_redis,
        Signs("cannot .* stream|ends at", "recovered after|caught up with stream"),
        forgives=True,
        on=(SERVER,),
    ),
    Kind("a foreign XTRIM", _trim_by_hand, Signs(_LOST, "caught up with stream"), forgives=True),
    Kind("a foreign XDEL", _delete_by_hand, Signs(_LOST, "caught up with stream"), forgives=True),
    Kind(
        "foreign entries",
        _write_by_hand,
        Signs("malformed entry", "caught up with stream", top="malformed", alerts=("HsmMalformedEntries",)),
        forgives=True,
    ),
]
