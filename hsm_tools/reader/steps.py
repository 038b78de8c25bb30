"""What readers ask of Redis, apart from how it is asked: their logic is written once, and driven twice.

The logic (`streams`, `groups`, `newest`, `batches`) is generators that yield a request and are sent its reply, or
thrown redis-py's error. `consumer` drives them with `redis.Redis`, `aio` with `redis.asyncio.Redis`. A generator may
be given up at any request (an error, an interrupt, a cancelled task): it changes what it knows only after a reply.

Replies are as the server sent them, for no client's callbacks touch them: see `pairs` for the one difference left.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Command(NamedTuple):
    """One command; an error that the server answers is thrown."""

    args: tuple[Any, ...]


class Pipeline(NamedTuple):
    """Several commands in one round trip, as one transaction if so said; the server's errors stand in the reply."""

    commands: list[tuple[Any, ...]]
    transaction: bool = False


class Pause(NamedTuple):
    """Waiting; the reply is None, and comes early when the reading is to end."""

    seconds: float


Request: TypeAlias = Command | Pipeline | Pause
Steps: TypeAlias = Generator[Request, Any, T]


def pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """The pairs of a map: a dict from protocol 3, [key, value, ...] from protocol 2."""
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


def pages(reply: Any) -> Iterable[tuple[bytes, list[Any]]]:
    """The streams in a reply to XREAD or XREADGROUP, each with its entries: [id, [field, value, ...]]."""
    return reply.items() if isinstance(reply, dict) else reply or ()
