"""Which node has which slot, as nodes tell it: whole, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import redis
import redis.exceptions

from hsm_shipper.contract.redis_address import Node, parse_url
from hsm_shipper.stream.cluster_map import (
    SLOTS,
    ClusterNodes,
    ClusterRefused,
    ClusterUnavailable,
    SlotMap,
    redirection,
    slot_of,
)
from hsm_shipper.stream.questions import Question, answered

A, B, C = Node("a", 1), Node("b", 2), Node("c", 3)
URL = "redis+cluster://a:1,b:2"


def told(first: int, last: int, *nodes: Node) -> list[Any]:
    """A range in the reply to CLUSTER SLOTS: its primary, and replicas."""
    return [first, last, *([node.host.encode(), node.port, b"id", []] for node in nodes)]


HALVES = [told(0, 8191, A, C), told(8192, SLOTS - 1, B)]


def look(nodes: ClusterNodes, answers: Mapping[Node, Any]) -> tuple[SlotMap, list[Node]]:
    """The map as these nodes tell it, and who was asked; those left out do not answer."""
    asked = []

    def ask(question: Question) -> Any:
        asked.append(question.node)
        answer = answers.get(question.node, redis.ConnectionError("refused."))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return answered(nodes.look(), ask), asked


def test_all_keys_of_an_mdt_are_in_one_slot() -> None:
    keys = [f"hsm:actions:elm-MDT0000{end}" for end in ("",)]
    keys += [f"{{hsm:actions:elm-MDT0000}}:{end}" for end in ("heartbeat", "maintenance", "check")]
    assert len({slot_of(key) for key in keys} | {slot_of(key.encode()) for key in keys}) == 1


def test_a_slot_is_where_the_map_says() -> None:
    slot_map, _ = look(ClusterNodes(parse_url(URL)), {A: HALVES})
    assert slot_map.primaries == (A, B)
    assert [slot_map.node_of(slot) for slot in (0, 8191, 8192, SLOTS - 1)] == [A, A, B, B]


def test_who_answered_last_is_asked_first_and_replicas_are_asked_as_well() -> None:
    nodes = ClusterNodes(parse_url(URL))
    assert look(nodes, {B: HALVES})[1] == [A, B]
    assert look(nodes, {C: HALVES})[1] == [B, A, C]
    assert look(nodes, {C: HALVES})[1] == [C]


def test_who_led_astray_is_asked_last() -> None:
    """A node that is cut off tells a map that was right once."""
    nodes = ClusterNodes(parse_url(URL))
    everywhere = {A: HALVES, B: HALVES, C: HALVES}
    assert look(nodes, everywhere)[1] == [A]
    nodes.distrust()
    assert look(nodes, everywhere)[1] == [B]
    nodes.distrust()
    assert look(nodes, everywhere)[1] == [A]


def test_a_map_with_a_hole_is_none() -> None:
    nodes = ClusterNodes(parse_url(URL))
    hole = [told(0, 100, A), told(102, SLOTS - 1, B)]
    with pytest.raises(ClusterUnavailable, match=r"^1 of its 16384 slots are served by no node"):
        look(nodes, {A: hole})
    assert look(nodes, {A: hole, B: HALVES})[0].primaries == (A, B), "another node knows better"
    with pytest.raises(ClusterUnavailable, match="16384 of its 16384 slots"):
        look(nodes, {A: []})


def test_an_address_that_is_not_told_is_that_which_was_asked() -> None:
    for nothing in (None, b""):
        slot_map, _ = look(ClusterNodes(parse_url(URL)), {A: [[0, SLOTS - 1, [nothing, 7, b"id", []]]]})
        assert slot_map.primaries == (Node("a", 7),)
    with pytest.raises(ClusterRefused) as refused:
        look(ClusterNodes(parse_url("redis+cluster://a:1")), {A: [[0, SLOTS - 1, [b"?", 7, b"id", []]]]})
    assert "cluster-announce-hostname" in refused.value.hint


def test_a_name_that_cannot_be_looked_up_is_refused_and_of_a_replica_passed_over() -> None:
    """Redis takes any letters, digits, dots and hyphens for a cluster-announce-hostname."""
    long = "x" * 64
    for host in ("b..c", f"{long}.c"):
        bad = Node(host, 2)
        nodes = ClusterNodes(parse_url("redis+cluster://a:1"))
        with pytest.raises(ClusterRefused, match=f"'{host}' cannot be looked up") as refused:
            look(nodes, {A: [told(0, SLOTS - 1, bad)]})
        assert "cluster-announce-hostname" in refused.value.hint
        assert look(nodes, {A: [told(0, SLOTS - 1, A, bad)]})[0].primaries == (A,)
        assert look(nodes, {A: HALVES})[1] == [A]
        for error in (redis.exceptions.MovedError, redis.exceptions.AskError):
            with pytest.raises(ClusterRefused, match="cannot be looked up"):
                redirection(error(f"3999 {host}:6381"), A)


def test_what_nobody_answers_names_every_node() -> None:
    with pytest.raises(ClusterUnavailable, match=r"no node of the cluster answers \(a:1: refused, b:2: refused\)"):
        look(ClusterNodes(parse_url(URL)), {})


def test_a_refusal_counts_before_silence() -> None:
    denied = redis.exceptions.NoPermissionError("this user has no permissions to run the 'cluster|slots' command")
    for refusal in (denied, redis.AuthenticationError("invalid username-password pair")):
        with pytest.raises(type(refusal)):
            look(ClusterNodes(parse_url(URL)), {B: refusal})


def test_a_single_server_is_named_as_one() -> None:
    answer = redis.ResponseError("This instance has cluster support disabled")
    with pytest.raises(ClusterRefused, match="b:2 is no node of a cluster") as refused:
        look(ClusterNodes(parse_url(URL)), {B: answer})
    assert refused.value.hint == "name it by redis://b:2/DB"


@pytest.mark.parametrize(
    ("error", "node", "asking"),
    [
        (redis.exceptions.MovedError("3999 127.0.0.1:6381"), Node("127.0.0.1", 6381), False),
        (redis.exceptions.AskError("3999 ::1:6381"), Node("::1", 6381), True),
        (redis.exceptions.MovedError("3999 :6381"), Node("a", 6381), False),
    ],
)
def test_redirections(error: redis.exceptions.AskError, node: Node, asking: bool) -> None:
    assert redirection(error, A) == (node, asking)
