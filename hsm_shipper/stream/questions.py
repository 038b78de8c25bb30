"""Runs logic that asks: generators that yield a question, and are sent its answer or thrown redis-py's error.

Written so, logic does no I/O: a blocking client and one of asyncio ask for the same generator, and so do tests.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

import redis

from hsm_shipper.contract.redis_address import Node

Q = TypeVar("Q")
T = TypeVar("T")


class Question(NamedTuple):
    """A command for one server. Whoever asks it sends its reply as it came, or throws redis-py's error."""

    node: Node
    command: tuple[str, ...]


def answered(questions: Generator[Q, Any, T], ask: Callable[[Q], Any]) -> T:
    """What `questions` returns in the end, `ask` having been called for the answer to each."""
    try:
        question = next(questions)
        while True:
            try:
                answer = ask(question)
            except redis.RedisError as error:
                question = questions.throw(error)
            else:
                question = questions.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        questions.close()  # an interrupt leaves them in the middle
