"""What an entry takes in Redis, part by part, and what settings of the server and of the shipper save of it.

An allocator gives memory in sizes of its own, so the figures are those of the server's: `mem_allocator` of INFO. The
servers of distributions have jemalloc; name one by HSM_TEST_REDIS_SERVER.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from benchmarks.figures import Figure
from benchmarks.long_list import LongList
from benchmarks.processes import cpu_s
from hsm_shipper.contract.redis_keys import DATA_FIELD
from tests.support.servers import RedisServer

_AIM_WITHOUT_RAW_BYTES = 330.0
_MAX_BYTES, _MAX_ENTRIES = "stream-node-max-bytes", "stream-node-max-entries"
RECOMMENDED = {_MAX_BYTES: "16384", _MAX_ENTRIES: "100"}
_SETTINGS = (
    {_MAX_BYTES: "4096", _MAX_ENTRIES: "100"},  # the default
    {_MAX_BYTES: "8192", _MAX_ENTRIES: "100"},
    RECOMMENDED,
    {_MAX_BYTES: "32768", _MAX_ENTRIES: "100"},
    {_MAX_BYTES: "65536", _MAX_ENTRIES: "0"},
)
_UNIT, _SERVER_UNIT = "bytes an entry", "µs of Redis an entry"
_ENTRIES_PER_ROUND_TRIP = 1000


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Figure]:
    """Ship a list with and without `raw`, then keep the same entries under every setting."""
    del repetitions  # it is the same each time
    figures: list[Figure] = []
    for include_raw in (True, False):
        own = folder / f"raw-{include_raw}"
        own.mkdir()
        mdt = LongList(own, server, lines, include_raw=include_raw)
        mdt.forget_all()
        with mdt.worker() as worker:
            worker.run()
        figures += _figures(mdt, server, include_raw=include_raw)
        mdt.client.flushdb()
        mdt.client.close()
    return figures


def _figures(mdt: LongList, server: RedisServer, *, include_raw: bool) -> Iterator[Figure]:
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], mdt.client.xrange(mdt.key))
    payloads = [fields[DATA_FIELD] for _, fields in entries]
    kind = "with raw" if include_raw else "without raw"
    for part, size in _parts(payloads).items():
        yield Figure(f"{kind}: {part}", _UNIT, [size])
    payload_bytes = sum(map(len, payloads)) / len(payloads)
    yield Figure(f"{kind}: the JSON", _UNIT, [payload_bytes])
    before = cast(dict[str, str], mdt.client.config_get("stream-node-max-*"))
    try:
        for settings in _SETTINGS:
            for name, value in settings.items():
                mdt.client.config_set(name, value)
            kept = _kept(mdt, server, payloads)
            at = f"{kind}, nodes of {settings[_MAX_BYTES]}, {settings[_MAX_ENTRIES]}"
            aim = _AIM_WITHOUT_RAW_BYTES if settings is RECOMMENDED and not include_raw else None
            yield Figure(f"{at}: around the JSON", _UNIT, [kept.entry_bytes - payload_bytes])
            yield Figure(f"{at}: all", _UNIT, [kept.entry_bytes], aim)
            yield Figure(f"{at}: XADD", _SERVER_UNIT, [kept.append_us])
            yield Figure(f"{at}: XRANGE", _SERVER_UNIT, [kept.read_us])
    finally:
        for name, value in before.items():
            mdt.client.config_set(name, value)


def _parts(payloads: list[bytes]) -> dict[str, float]:
    """What the bytes of the JSON are for, on average."""
    sizes = {"raw and its key": 0, "other keys, quotes, commas": 0, "other values": 0}
    for payload in payloads:
        event = json.loads(payload)
        raw_bytes = len(_json({"raw": event.pop("raw")})) - 1 if "raw" in event else 0  # with its comma
        values_bytes = sum(len(_json(value).strip(b'"')) for value in event.values())
        sizes["raw and its key"] += raw_bytes
        sizes["other values"] += values_bytes
        sizes["other keys, quotes, commas"] += len(payload) - raw_bytes - values_bytes
    return {part: size / len(payloads) for part, size in sizes.items() if size}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class _Kept(NamedTuple):
    """What one entry took of the server: memory, and processor time to append it and to read it."""

    entry_bytes: float
    append_us: float
    read_us: float


def _kept(mdt: LongList, server: RedisServer, payloads: list[bytes]) -> _Kept:
    client, count = mdt.client, len(payloads)
    memory_before, cpu_before = client.info("memory")["used_memory"], cpu_s([server.pid])
    for start in range(0, count, _ENTRIES_PER_ROUND_TRIP):
        pipe = client.pipeline(transaction=False)
        for payload in payloads[start : start + _ENTRIES_PER_ROUND_TRIP]:
            pipe.xadd(mdt.set_aside_key, {DATA_FIELD: payload})
        pipe.execute()
    cpu_appended, memory_after = cpu_s([server.pid]), client.info("memory")["used_memory"]
    with mdt.reading_entries(mdt.set_aside_key) as reading:
        reading.run()
    cpu_read = cpu_s([server.pid])
    client.delete(mdt.set_aside_key)
    us = 1e6 / count
    return _Kept(
        (memory_after - memory_before) / count, us * (cpu_appended - cpu_before), us * (cpu_read - cpu_appended)
    )
