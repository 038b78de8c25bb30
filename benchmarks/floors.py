"""The least that a poll can cost: children that do nothing but what cannot be left out.

python -m benchmarks.floors reading ACTIONS
python -m benchmarks.floors pipeline CONFIG MDT
python -m benchmarks.floors entries CONFIG KEY
"""

from __future__ import annotations

import sys
from hashlib import md5
from pathlib import Path

from benchmarks.child import serve
from hsm_shipper.config import load_config
from hsm_shipper.contract.redis_keys import DATA_FIELD, stream_key
from hsm_shipper.lustre.actions_file import CHUNK_BYTES
from hsm_shipper.stream.connection import address, connect
from hsm_shipper.stream.stream import ActionStream

_ENTRIES_PER_ROUND_TRIP = 1000


def reading(actions: str) -> None:
    """Read, split, hash and look up every line: what a poll does with a listing that has not changed."""
    path = Path(actions)
    lines = path.read_bytes().splitlines()
    known = {md5(line, usedforsecurity=False).digest(): number for number, line in enumerate(lines)}
    del lines

    def look_up() -> int:
        unknown = 0
        with path.open("rb", buffering=0) as file:
            rest = b""
            while chunk := file.read(CHUNK_BYTES):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if md5(line, usedforsecurity=False).digest() not in known:
                        unknown += 1
        return unknown

    serve(look_up)


def pipeline(config_file: str, mdt: str) -> None:
    """Append the entries of an MDT's stream once more, to a stream of their own, as redis-py does it by itself."""
    config = load_config(Path(config_file), environ={}).config
    key = stream_key(config.redis_stream_prefix, mdt)
    client = connect(config, key)
    stream = ActionStream(client, key, address(config))
    pages = stream.replay(stream.head().last_id)
    payloads = [data for page in pages for _, data in page if data is not None]
    copy = f"copy:{stream.key}"

    def delete_copy() -> None:
        client.delete(copy)

    def append() -> None:
        for start in range(0, len(payloads), _ENTRIES_PER_ROUND_TRIP):
            pipe = client.pipeline(transaction=False)
            for payload in payloads[start : start + _ENTRIES_PER_ROUND_TRIP]:
                pipe.xadd(copy, {DATA_FIELD: payload})
            pipe.execute()
        if client.xlen(copy) != len(payloads):
            sys.exit("the pipeline did not append every entry")

    serve(append, before=delete_copy)


def entries(config_file: str, key: str) -> None:
    """Read every entry of a stream, as redis-py does it by itself."""
    client = connect(load_config(Path(config_file), environ={}).config, key)

    def read() -> int:
        count, start = 0, "-"
        while page := client.xrange(key, start, count=_ENTRIES_PER_ROUND_TRIP):
            count += len(page)
            last = page[-1][0]
            assert isinstance(last, bytes), "redis-py decodes nothing here"
            start = f"({last.decode()}"
        return count

    serve(read)


if __name__ == "__main__":
    if sys.argv[1] == "reading":
        reading(*sys.argv[2:])
    elif sys.argv[1] == "pipeline":
        pipeline(*sys.argv[2:])
    else:
        entries(*sys.argv[2:])
