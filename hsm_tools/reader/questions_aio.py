"""Runs logic that asks with a client of asyncio: what `stream.questions` does with a blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import redis

Q = TypeVar("Q")
T = TypeVar("T")


async def answered(questions: Generator[Q, Any, T], ask: Callable[[Q], Awaitable[Any]]) -> T:
    """What `questions` returns in the end, `ask` having been awaited for the answer to each."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        question = next(questions)
        while True:
            if task and task.cancelling() > cancelled:
                raise asyncio.CancelledError  # before Python 3.12 asyncio.wait_for, in redis-py, may swallow one
            try:
                answer = await ask(question)
            except redis.RedisError as error:
                question = questions.throw(error)
            else:
                question = questions.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        questions.close()  # a cancelled task leaves them in the middle
