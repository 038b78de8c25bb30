"""Long things in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in runs of at most `size`: what itertools has since Python 3.12, but for lists."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
