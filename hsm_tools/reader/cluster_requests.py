"""What readers ask of a cluster: each request taken apart by node, and the answers put together, whole or an error.

As in `steps`, the logic is a generator, driven twice: it yields what each node is to be asked in one round trip, all
nodes at the same time, and is sent their replies. A command that a node sends elsewhere (MOVED, ASK) was not done, and
is sent there. A cluster reads several streams by one command only where they are in one slot, so XREAD and XREADGROUP
become one of each stream, asked again and again until one has something: BLOCK would block for one stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import redis
import redis.exceptions

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.stream.cluster_map import (
    ClusterNodes,
    ClusterUnavailable,
    Redirection,
    SlotMap,
    redirection,
    slot_of,
)
from hsm_tools.reader.cluster_search import END, SearchPass
from hsm_tools.reader.steps import Command, Pause, Pipeline, Request, pages

T = TypeVar("T")

# How soon an idle reader asks again: for a node that is a few commands, and an event is as much later at most.
_POLL_INTERVAL_S = 0.1
# A slot on its way is there in milliseconds; a failover takes as long as the nodes' own timeout, and is an outage.
_ROUNDS_MAX = 10
_ROUND_PAUSE_S = 0.05
# Each takes about as long as a slot that moves.
_SEARCHES_MAX = 20
# Cursor of SCAN for all nodes together, while there is more.
_MORE = b"1"

Words: TypeAlias = tuple[Any, ...]


class NodeCommands(NamedTuple):
    """What to ask of each node, all at the same time.

    The reply: for each node a list of the replies in order, the server's errors among them, or the error that kept it
    from answering.
    """

    by_node: dict[Node, list[Words]]


ClusterRequest: TypeAlias = NodeCommands | Pause
ClusterSteps: TypeAlias = Generator[ClusterRequest, Any, T]


class ClusterRequests:
    """Answers the requests of readers from a cluster. `on_change` is told whenever slots are found on other nodes."""

    def __init__(self, nodes: ClusterNodes, on_change: Callable[[], None]) -> None:
        self._nodes = nodes
        self._on_change = on_change
        self._map: SlotMap | None = None
        self._last_map: SlotMap | None = None
        self._pass: SearchPass | None = None
        self._tries = 0

    def look_again(self) -> None:
        """Ask where the slots are before the next request."""
        self._map = None

    def answer(self, request: Request) -> ClusterSteps[Any]:
        """The reply to a request, as one server gives it. Raises redis-py's errors."""
        match request:
            case Command(("SCAN", cursor, *options)):
                return (yield from self._search(cursor, options))
            case Command(("XREAD" | "XREADGROUP", *_) as words):
                return (yield from self._read_streams(words))
            case Command(words):
                [reply] = yield from self._each([words])
                if isinstance(reply, redis.RedisError):
                    raise reply
                return reply
            case Pipeline(commands):  # a transaction over several slots is none: see `GroupSource`
                return (yield from self._each(commands))
            case Pause():
                return (yield request)

    def _each(self, commands: Sequence[Words]) -> ClusterSteps[list[Any]]:
        """The replies to commands that each have one key, in their order; errors stand among them."""
        replies: list[Any] = [None] * len(commands)
        redirected: dict[int, Redirection] = {}
        left: Iterable[int] = range(len(commands))
        for number in range(_ROUNDS_MAX):
            if number > 1:
                yield Pause(_ROUND_PAUSE_S)
            slot_map = yield from self._slot_map()
            there = {
                at: redirected.get(at) or Redirection(slot_map.node_of(slot_of(key_of(commands[at]))), False)
                for at in left
            }
            replies_now = yield from self._one_round({at: (to, commands[at]) for at, to in there.items()})
            redirected.clear()
            left = []
            for at, reply in replies_now.items():
                replies[at] = reply
                if isinstance(reply, redis.exceptions.AskError):  # MOVED is one as well
                    redirected[at] = redirection(reply, there[at].node)
                    left.append(at)
                elif isinstance(reply, redis.exceptions.TryAgainError):
                    left.append(at)
                elif isinstance(reply, redis.exceptions.ClusterDownError):
                    self._nodes.distrust()
                    self.look_again()
                    raise reply
            if any(not to.asking for to in redirected.values()):
                self.look_again()
            if not left:
                return replies
        raise ClusterUnavailable(
            f"the nodes send us from one to the other: {replies[next(iter(left))]}", "look at CLUSTER NODES on each"
        )

    def _one_round(self, asked: dict[int, tuple[Redirection, Words]]) -> ClusterSteps[dict[int, Any]]:
        by_node: dict[Node, list[Words]] = {}
        for there, words in asked.values():
            by_node.setdefault(there.node, []).extend([("ASKING",), words] if there.asking else [words])
        answers = yield from self._ask(by_node)
        left = {node: iter(replies) for node, replies in answers.items()}
        found = {}
        for at, (there, _) in asked.items():
            permitted = next(left[there.node]) if there.asking else None
            reply = next(left[there.node])
            found[at] = permitted if isinstance(permitted, redis.RedisError) else reply
        return found

    def _ask(self, by_node: dict[Node, list[Words]]) -> ClusterSteps[dict[Node, list[Any]]]:
        answers: dict[Node, list[Any]] = yield NodeCommands(by_node)
        for node, answer in answers.items():
            if isinstance(answer, redis.RedisError):
                self._nodes.distrust()
                self.look_again()
                raise _with_node(answer, node)
        return answers

    def _slot_map(self) -> ClusterSteps[SlotMap]:
        if self._map is None:
            found = yield from self._look()
            if self._last_map is not None and found.ranges != self._last_map.ranges:
                self._on_change()
            self._map = self._last_map = found
        return self._map

    def _look(self) -> ClusterSteps[SlotMap]:
        questions = self._nodes.look()
        try:
            question = next(questions)
            while True:
                answer = (yield NodeCommands({question.node: [question.command]}))[question.node]
                reply = answer if isinstance(answer, redis.RedisError) else answer[0]
                question = questions.throw(reply) if isinstance(reply, redis.RedisError) else questions.send(reply)
        except StopIteration as end:
            found: SlotMap = end.value
            return found

    def _read_streams(self, words: Words) -> ClusterSteps[list[Any]]:
        commands, block_s = split_by_stream(words)
        until_s = time.monotonic() + block_s
        while True:
            replies = yield from self._each(commands)
            for reply in replies:
                if isinstance(reply, redis.RedisError):
                    raise reply
            found = [page for reply in replies for page in pages(reply)]
            now_s = time.monotonic()
            if found or now_s >= until_s:
                return found
            pause_s = min(_POLL_INTERVAL_S, until_s - now_s)
            yield Pause(pause_s)
            if time.monotonic() - now_s < pause_s / 2:
                return []  # the reading is to end

    def _search(self, cursor: Any, options: Sequence[Any]) -> ClusterSteps[list[Any]]:
        """SCAN on all nodes at the same time; one cursor stands for all of theirs."""
        if cursor == END or self._pass is None:
            self._tries = 0
            self._pass = SearchPass((yield from self._slot_map()).primaries, 0)
        current, self._pass = self._pass, None
        answers = yield from self._ask(
            {node: [("SCAN", at, *options), ("CLUSTER", "NODES")] for node, at in current.cursors.items()}
        )
        keys: list[bytes] = []
        for node, replies in answers.items():
            for reply in replies:
                if isinstance(reply, redis.RedisError):
                    raise reply
            (current.cursors[node], found), told = replies
            keys += found
            if current.cursors[node] == END:
                current.ended_at(node, told)
        if not current.cursors:
            if current.is_enough:
                return [END, keys]
            current = yield from self._next_pass(current)
        self._pass = current
        return [_MORE, keys]

    def _next_pass(self, before: SearchPass) -> ClusterSteps[SearchPass]:
        self._tries += 1
        if self._tries == _SEARCHES_MAX:
            raise ClusterUnavailable("its slots move faster than streams can be searched for", "try again later")
        if not before.is_complete:
            self._nodes.distrust()  # another may know sooner who has the slot now
        yield Pause(_ROUND_PAUSE_S)
        self.look_again()
        slot_map = yield from self._slot_map()
        return SearchPass(slot_map.primaries, before.complete_before + before.is_complete)


def _with_node(error: redis.RedisError, node: Node) -> redis.RedisError:
    """`error`, which tells of which node it is: redis-py's for asyncio do not all."""
    if type(error) not in (redis.ConnectionError, redis.TimeoutError) or str(node) in str(error):
        return error
    named = type(error)(f"{node}: {error}")
    named.__cause__ = error
    return named


def key_of(words: Words) -> str | bytes:
    """The one key of a command."""
    key: str | bytes = words[_KEY_AT.get(words[0], 1)]
    return key


# Behind a subcommand, or before the id from which one stream is read.
_KEY_AT = {"XINFO": 2, "XGROUP": 2, "XREAD": -2, "XREADGROUP": -2}


def split_by_stream(words: Words) -> tuple[list[Words], float]:
    """XREAD or XREADGROUP of several streams as one for each, without BLOCK, and the seconds that it was to block."""
    at = words.index("STREAMS")
    options, rest = list(words[:at]), words[at + 1 :]
    block_s = 0.0
    if "BLOCK" in options:
        where = options.index("BLOCK")
        block_s = options[where + 1] / 1000
        del options[where : where + 2]
    count = len(rest) // 2
    return [(*options, "STREAMS", key, after) for key, after in zip(rest[:count], rest[count:], strict=True)], block_s
