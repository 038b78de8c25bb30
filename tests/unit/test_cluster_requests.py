"""What readers ask of a cluster, taken apart by node: against nodes that answer as a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import redis
import redis.exceptions

from hsm_shipper.contract.redis_address import Node, parse_url
from hsm_shipper.stream.cluster_map import SLOTS, ClusterNodes, ClusterUnavailable, slot_of
from hsm_tools.reader.cluster_requests import ClusterRequests, NodeCommands, split_by_stream
from hsm_tools.reader.cluster_search import cover_all, own_slots
from hsm_tools.reader.steps import Command, Pause, Pipeline, Request

A, B = Node("a", 1), Node("b", 2)
HALF = SLOTS // 2
# By the half of the slots that they are in.
KEY_A, KEY_B = "hsm:actions:elm-MDT0000", "hsm:actions:elm-MDT0002"
SEARCH = Command(("SCAN", b"0", "MATCH", "hsm:actions:*", "COUNT", 1000, "TYPE", "stream"))

Answer = Callable[[Node, tuple[Any, ...]], Any]


def nodes_line(slots: str, flags: str = "myself,master") -> bytes:
    """The reply to CLUSTER NODES of a node that says this of itself."""
    other = "07c3 127.0.0.1:30004@31004,h slave e7d1 0 1426238317239 4 connected"
    return f"{other}\ne7d1 127.0.0.1:30001@31001,h {flags} - 0 0 1 connected {slots}\n".encode()


class Cluster:
    """Two nodes; `answers` are the replies to all but the question where the slots are."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.halves = (A, B)
        self.halves_by: dict[Node, tuple[Node, Node]] = {}
        self.changes = 0
        self.rounds: list[dict[Node, list[tuple[Any, ...]]]] = []
        self.requests = ClusterRequests(ClusterNodes(parse_url("redis+cluster://a:1,b:2")), self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def ask(self, request: Request) -> Any:
        """The reply to a request; pauses cost no time."""
        steps = self.requests.answer(request)
        try:
            asked = next(steps)
            while True:
                asked = steps.send(self._replies(asked.by_node) if isinstance(asked, NodeCommands) else None)
        except StopIteration as end:
            return end.value

    def _replies(self, by_node: Mapping[Node, list[tuple[Any, ...]]]) -> dict[Node, Any]:
        if not any(words == ("CLUSTER", "SLOTS") for commands in by_node.values() for words in commands):
            self.rounds.append(dict(by_node))
        return {node: [self._reply(node, words) for words in commands] for node, commands in by_node.items()}

    def _reply(self, node: Node, words: tuple[Any, ...]) -> Any:
        if words == ("CLUSTER", "SLOTS"):
            ends = ((0, HALF - 1), (HALF, SLOTS - 1))
            return [
                [first, last, [its.host.encode(), its.port]]
                for (first, last), its in zip(ends, self.halves_by.get(node, self.halves), strict=True)
            ]
        return self.answer(node, words)


def moved(node: Node, kind: type[redis.exceptions.AskError] = redis.exceptions.MovedError) -> redis.RedisError:
    return kind(f"1 {node.host}:{node.port}")


def test_the_keys_of_these_tests() -> None:
    assert slot_of(KEY_A) < HALF <= slot_of(KEY_B)


def test_a_pipeline_is_split_and_its_replies_are_in_order() -> None:
    cluster = Cluster(lambda node, words: (node, words[-1]))
    commands = [("TYPE", KEY_B), ("XINFO", "STREAM", KEY_A), ("XINFO", "STREAM", KEY_B), ("GET", f"{{{KEY_A}}}:beat")]
    assert cluster.ask(Pipeline(commands, transaction=True)) == [
        (B, KEY_B),
        (A, KEY_A),
        (B, KEY_B),
        (A, f"{{{KEY_A}}}:beat"),
    ]
    assert len(cluster.rounds) == 1, "both nodes are asked at the same time"


def test_errors_stand_in_a_pipeline_and_are_raised_of_a_command() -> None:
    error = redis.ResponseError("no such key")
    cluster = Cluster(lambda _node, words: error if words[-1] == KEY_A else 1)
    assert cluster.ask(Pipeline([("XLEN", KEY_A), ("XLEN", KEY_B)])) == [error, 1]
    with pytest.raises(redis.ResponseError, match="no such key"):
        cluster.ask(Command(("XLEN", KEY_A)))


def test_what_was_moved_is_asked_there_and_nothing_else_is_asked_again() -> None:
    cluster = Cluster(lambda node, words: moved(B) if node == A and words[0] == "XLEN" else node)
    assert cluster.ask(Pipeline([("XLEN", KEY_A), ("TYPE", KEY_A)])) == [B, A]
    assert cluster.rounds[1] == {B: [("XLEN", KEY_A)]}


def test_ask_is_obeyed_for_one_command() -> None:
    cluster = Cluster(lambda node, _words: moved(B, redis.exceptions.AskError) if node == A else node)
    assert cluster.ask(Command(("XLEN", KEY_A))) == B
    assert cluster.rounds[1] == {B: [("ASKING",), ("XLEN", KEY_A)]}
    cluster.ask(Command(("XLEN", KEY_A)))
    assert cluster.rounds[2] == {A: [("XLEN", KEY_A)]}, "the slot is still A's"


def test_a_map_that_changed_is_told() -> None:
    cluster = Cluster(lambda node, _words: moved(B) if node == A else node)
    cluster.ask(Command(("XLEN", KEY_A)))
    cluster.ask(Command(("XLEN", KEY_A)))
    assert cluster.changes == 0, "the map that is asked for is the same as before"
    cluster.halves = (B, B)
    cluster.ask(Command(("XLEN", KEY_A)))
    assert cluster.changes == 1
    assert cluster.ask(Command(("XLEN", KEY_A))) == B
    assert len(cluster.rounds[-1]) == 1


def test_nodes_that_send_from_one_to_the_other_are_an_error_that_passes() -> None:
    cluster = Cluster(lambda node, _words: moved(B if node == A else A))
    with pytest.raises(ClusterUnavailable, match="from one to the other"):
        cluster.ask(Command(("XLEN", KEY_A)))


@pytest.mark.parametrize("request_", [Command(("XLEN", KEY_A)), Pipeline([("XLEN", KEY_A), ("XLEN", KEY_B)])])
def test_a_cluster_that_is_down_is_an_error_of_the_whole(request_: Request) -> None:
    down = redis.exceptions.ClusterDownError("The cluster is down")
    cluster = Cluster(lambda node, _words: down if node == A else 1)
    with pytest.raises(redis.exceptions.ClusterDownError):
        cluster.ask(request_)


def test_another_node_is_asked_when_one_has_led_astray() -> None:
    """A is cut off from the others, and does not know that B has taken over all it had."""
    down = redis.exceptions.ClusterDownError("The cluster is down")
    cluster = Cluster(lambda node, _words: down if node == A else node)
    cluster.halves_by = {B: (B, B)}
    with pytest.raises(redis.exceptions.ClusterDownError):
        cluster.ask(Command(("XLEN", KEY_A)))
    assert cluster.ask(Command(("XLEN", KEY_A))) == B
    assert cluster.changes == 1


def test_streams_are_read_one_by_one_and_whole() -> None:
    words = ("XREAD", "COUNT", 9, "BLOCK", 1500, "STREAMS", KEY_A, KEY_B, b"1-0", b"2-0")
    assert split_by_stream(words) == (
        [("XREAD", "COUNT", 9, "STREAMS", KEY_A, b"1-0"), ("XREAD", "COUNT", 9, "STREAMS", KEY_B, b"2-0")],
        1.5,
    )
    entries = [[b"3-0", [b"data", b"{}"]]]
    cluster = Cluster(lambda node, words: [[words[-2].encode(), entries]] if node == B else None)
    assert cluster.ask(Command(words)) == [[KEY_B.encode(), entries]]
    failing = Cluster(lambda node, _words: redis.ResponseError("WRONGTYPE") if node == A else None)
    with pytest.raises(redis.ResponseError):
        failing.ask(Command(words))


def test_own_slots() -> None:
    assert own_slots(nodes_line("0-5460 5462 [5461->-07c3] [9-<-07c3]")) == ([(0, 5460), (5462, 5462)], True)
    assert own_slots(nodes_line("")) == ([], False)
    assert own_slots(nodes_line("0-5460", "myself,slave")) == ([], False)


@pytest.mark.parametrize(
    ("ranges", "covered"),
    [
        ([(0, SLOTS - 1)], True),
        ([(HALF, SLOTS - 1), (0, HALF)], True),
        ([(0, HALF - 1), (HALF + 1, SLOTS - 1)], False),
        ([(0, SLOTS - 2)], False),
        ([(1, SLOTS - 1)], False),
        ([], False),
    ],
)
def test_cover_all(ranges: list[tuple[int, int]], covered: bool) -> None:
    assert cover_all(ranges) is covered


FIRST, SECOND = f"0-{HALF - 1}", f"{HALF}-{SLOTS - 1}"


class Search:
    """Nodes whose keys and words on themselves change from search to search."""

    def __init__(self, *searches: tuple[str, str]) -> None:
        """What A and B say of their slots, in each search."""
        self.searches = searches
        self.number = -1
        self.cluster = Cluster(self._answer)

    def _answer(self, node: Node, words: tuple[Any, ...]) -> Any:
        if words[0] == "SCAN":
            self.number += node == A
            return [b"0", [f"{node.host}{self.number}".encode()]]
        return nodes_line(self.searches[min(self.number, len(self.searches) - 1)][node == B])

    def keys(self) -> tuple[set[bytes], int]:
        """All keys, and how many requests it took."""
        found: set[bytes] = set()
        cursor, trips = b"0", 0
        while cursor != b"0" or not trips:
            cursor, keys = self.cluster.ask(SEARCH._replace(args=("SCAN", cursor, *SEARCH.args[2:])))
            found.update(keys)
            trips += 1
        return found, trips


def test_a_search_asks_all_nodes_once() -> None:
    assert Search((FIRST, SECOND)).keys() == ({b"a0", b"b0"}, 1)


def test_a_slot_that_went_while_they_were_searched_has_them_searched_again() -> None:
    """A was searched before slot 0 came there, B after it had left."""
    without = (f"1-{HALF - 1}", SECOND)
    assert Search(without, (FIRST, SECOND)).keys() == ({b"a0", b"b0", b"a1", b"b1"}, 2)


def test_a_slot_that_is_on_its_way_has_them_searched_twice() -> None:
    moving = (f"{FIRST} [0->-e7d1]", SECOND)
    assert Search(moving).keys() == ({b"a0", b"b0", b"a1", b"b1"}, 2)


def test_slots_that_nobody_has_are_an_error() -> None:
    with pytest.raises(ClusterUnavailable, match="faster than"):
        Search((FIRST, f"{HALF + 1}-{SLOTS - 1}")).keys()


def test_a_node_that_does_not_answer_is_an_error() -> None:
    requests = ClusterRequests(ClusterNodes(parse_url("redis+cluster://a:1")), lambda: None)
    steps = requests.answer(SEARCH)
    asked = next(steps)
    slots = [[0, HALF - 1, [b"a", 1]], [HALF, SLOTS - 1, [b"b", 2]]]
    asked = steps.send({A: [slots]})
    assert isinstance(asked, NodeCommands) and {*asked.by_node} == {A, B}
    with pytest.raises(redis.TimeoutError, match=r"^b:2: Timeout reading from socket$"):
        steps.send({A: [[b"0", []], nodes_line(FIRST)], B: redis.TimeoutError("Timeout reading from socket")})


def test_a_pause_is_a_pause() -> None:
    steps = ClusterRequests(ClusterNodes(parse_url("redis+cluster://a:1")), lambda: None).answer(Pause(2.0))
    assert next(steps) == Pause(2.0)
