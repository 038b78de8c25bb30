"""How much the product takes at a time, made small for a life.

Pages, batches, chunks, blocks and the slack of a stream are meant for lists of 350,000 lines. Those of a life have some
thirty: with small sizes their ends lie within such a list, and whatever may happen between two of them does.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

from hsm_shipper.contract import trim_bound
from hsm_shipper.state import rows
from hsm_shipper.worker.outbox import USUAL_BOUND, OutboxBound


class Sizes(NamedTuple):
    """What the judge and the steps have to know of them."""

    slack_entries: int = trim_bound.SLACK_ENTRIES
    """How many entries a stream may have beside two for each live action."""
    burst_polls: int = 40
    """As many polls make a stream longer than that."""
    bound: OutboxBound = USUAL_BOUND
    """How much may wait while Redis is away."""


def drawn(rng: random.Random) -> tuple[Sizes, dict[str, Any]]:
    """Sizes of a life, and the names in the product with their values: in one of eight as they are."""
    if rng.random() < 0.125:
        return Sizes(), {}
    slack = rng.choice((10, 20, 40))
    rows_per_insert = rng.randint(2, 5)
    bound = OutboxBound(rng.choice((1_000_000, 1_000_000, 1_000_000, 20, 0)), send_s=rng.choice((0.0, 10.0)))
    return Sizes(slack, 8, bound), {
        "contract.trim_bound.SLACK_ENTRIES": slack,
        "lustre.actions_file.CHUNK_BYTES": rng.choice((200, 600, 1500, 5000)),
        "stream.page_reader.PAGE_ENTRIES": rng.randint(2, 9),
        "stream.stream._ENTRIES_AT_ONCE": rng.choice((1, 3, 200)),
        "stream.replay._STEP_ENTRIES": rng.choice((1, 2, 5)),
        "stream.replay._MARKS_MAX": rng.choice((4, 20, 1000)),
        "stream.replay._CHUNK_ENTRIES": rng.choice((5, 10)),
        "state.content_sum._ACTIONS_AT_ONCE": rng.randint(1, 5),
        "state.rows._ROWS_PER_READ": rng.randint(1, 5),
        "state.rows._ROWS_PER_INSERT": rows_per_insert,
        "state.rows._INSERT_MANY": rows._INSERT + ", ".join([rows._ROW_MARKS] * rows_per_insert),
        "state.outbox_rows._ROWS_PER_READ": rng.randint(1, 5),
        "worker.outbox.BATCH_EVENTS": rng.randint(1, 5),
        "state.state_file._PLACES_PER_QUERY": rng.randint(1, 5),
        "state.state_file._PLACES_STEP": rng.choice((1, 3)),
        "worker.batch_size.BATCH_EVENTS": rng.randint(1, 9),
        "worker.digest_table._FEWEST_CELLS": 8,
        "worker.held_lines.HELD_OPEN_MAX": rng.randint(3, 25),
        "worker.listing_blocks.BLOCK_MIN_BYTES": rng.choice((100, 500)),
        "worker.listing_blocks.BLOCK_MAX_BYTES": rng.choice((600, 2000)),
        "worker.listing_blocks.RUN_BYTES": rng.choice((500, 3000)),
        "worker.listing_scan._NEW_BLOCKS_MAX": rng.choice((1, 4)),
        "worker.snapshot._LINES_TOGETHER": rng.choice((1, 3, 10)),
    }  # fmt: skip


def told(values: dict[str, Any]) -> str:
    """The sizes of a life, for people."""
    names = {name.rpartition(".")[2].strip("_").lower(): value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in names.items() if isinstance(value, int)) or "as they are"


@contextlib.contextmanager
def installed(values: dict[str, Any]) -> Iterator[None]:
    """Within this the product has these."""
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            for module, constant in _where(name):
                stack.enter_context(mock.patch.object(module, constant, value))
        yield


@cache
def _where(name: str) -> list[tuple[ModuleType, str]]:
    """Where the product has a constant: where it is defined, and where it was imported to."""
    home, _, constant = name.rpartition(".")
    modules = [import_module(f"hsm_shipper.{home}")]
    modules += [module for name, module in sys.modules.items() if name.startswith("hsm_shipper.")]
    return [(module, constant) for module in modules if module is modules[0] or hasattr(module, constant)]
