"""Whether a search for keys on all nodes of a cluster has found all of them, though slots move meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.contract.stream_ids import text_of
from hsm_shipper.stream.cluster_map import SLOTS

END = b"0"
"""Cursor of SCAN, before the first and behind the last part."""


class SearchPass:
    """One search on all nodes: where it has got to on each, and what they said of themselves at the end of theirs."""

    def __init__(self, primaries: Iterable[Node], complete_before: int) -> None:
        self.cursors = dict.fromkeys(primaries, END)
        self.slots: list[tuple[int, int]] = []
        """Those that a node served once its own search was over."""
        self.has_moving = False
        self.complete_before = complete_before
        """How many searches before this one had all slots."""

    def ended_at(self, node: Node, told: Any) -> None:
        """The search is over at a node, which tells this of itself."""
        del self.cursors[node]
        slots, has_moving = own_slots(told)
        self.slots += slots
        self.has_moving |= has_moving

    @property
    def is_complete(self) -> bool:
        """Whether every slot was served by a node when the search there ended: none went while it went on."""
        return cover_all(self.slots)

    @property
    def is_enough(self) -> bool:
        """Whether no stream can have slipped through.

        One that hopped from a node that was not yet searched to one that had been leaves a slot that nobody serves,
        or one that is on its way; it is where it hopped to for a second search.
        """
        return self.is_complete and (not self.has_moving or self.complete_before > 0)


def own_slots(told: Any) -> tuple[list[tuple[int, int]], bool]:
    """Ranges of slots that a node serves as a primary, by its answer to CLUSTER NODES, and whether any is moving.

    Of itself it tells `<id> <address> myself,<flags> ... <slots>`, of a slot that moves `[<slot>->-<node>]` or
    `[<slot>-<-<node>]` (https://redis.io/docs/latest/commands/cluster-nodes/).
    """
    its = next(words for line in text_of(told).splitlines() if "myself" in (words := line.split())[2])
    if "master" not in its[2]:
        return [], False
    served = [word.partition("-") for word in its[8:] if not word.startswith("[")]
    return [(int(first), int(last or first)) for first, _, last in served], len(served) < len(its) - 8


def cover_all(ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether there is no slot that no range has."""
    following = 0
    for first, last in sorted(ranges):
        if first > following:
            return False
        following = max(following, last + 1)
    return following == SLOTS
