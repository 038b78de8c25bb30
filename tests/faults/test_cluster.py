"""Eight MDTs that change while the cluster under them reshards, fails over and loses nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster_load import Load
from tests.support.clusters import RedisCluster
from tests.support.waiting import eventually


@pytest.fixture
def load(cluster: RedisCluster, tmp_path: Path) -> Iterator[Load]:
    load = Load(cluster, tmp_path)
    yield load
    load.close()


def test_slots_that_move_cost_no_poll(load: Load, cluster: RedisCluster) -> None:
    """Each slot goes to another node again and again, and stays on its way for a while, with and without its keys."""
    moves = 0

    def reshard(ending: threading.Event) -> None:
        nonlocal moves
        while not ending.is_set():
            for mdt in load.mdts:
                source, target = cluster.begin_move(mdt.key)
                ending.wait(0.02)
                cluster.move_keys(mdt.key, source, target)
                ending.wait(0.05)
                cluster.end_move(mdt.key, source, target)
                moves += 1

    with load.under(reshard):
        load.rounds_until(lambda: moves >= 2 * len(load.mdts))
    assert load.troubles() == []
    load.settle()
    load.check()


def test_primaries_that_change_places_in_good_order_have_nothing_twice(load: Load, cluster: RedisCluster) -> None:
    changes = 0

    def fail_over(ending: threading.Event) -> None:
        nonlocal changes
        while not ending.is_set():
            for mdt in load.mdts[:3]:
                cluster.fail_over(mdt.key)
                changes += 1

    with load.under(fail_over):
        load.rounds_until(lambda: changes >= 3)
    assert load.unexpected() == []
    load.settle()
    load.check()


@pytest.mark.parametrize("hangs", [False, True], ids=["killed", "hangs"])
def test_a_primary_that_is_lost_is_replaced_and_what_it_lost_is_healed(
    load: Load, cluster: RedisCluster, hangs: bool
) -> None:
    """One that hangs comes back, thinks for a moment that it is still the primary, and takes what it is sent.

    One that is killed has entries that its replica has not.
    """
    load.rounds(3)
    key = load.mdts[0].key
    is_replaced = False

    def lose(ending: threading.Event) -> None:
        nonlocal is_replaced
        victim = cluster.node_of(key)
        partner = cluster.partner_of(victim)
        if hangs:
            victim.pause()
        else:
            partner.pause()
            ending.wait(0.3)
            victim.kill()
            partner.resume()
        eventually(partner.is_primary, 60.0)
        if hangs:
            victim.resume()
        is_replaced = True

    with load.under(lose):
        load.rounds_until(lambda: is_replaced)
    assert load.unexpected() == []
    load.settle()
    load.check()
