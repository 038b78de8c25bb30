"""A consumer under load: `python -m tests.torture.load_consumer group|tail URL FILE`.

Writes to FILE, every second, how many events it has been given and how old the oldest of them was then.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hsm_tools.consumer import StreamReader
from hsm_tools.event import StreamEvent

GROUP = "load"


def _batches(kind: str, url: str) -> Iterator[list[StreamEvent]]:
    with StreamReader(redis_url=url, refreshes=True) as reader:
        if kind == "tail":
            yield from reader.batches(block_ms=500)
            return
        with reader.group(GROUP) as group:
            for batch in group.batches(block_ms=500):
                yield batch
                group.ack(*batch)


def main() -> None:
    """Read until killed."""
    kind, url, name = sys.argv[1:]
    file, new = Path(name), Path(f"{name}.new")
    events, worst_s, next_s = 0, 0.0, 0.0
    for batch in _batches(kind, url):
        now_s = time.time()
        if batch:
            events += len(batch)
            worst_s = max(worst_s, now_s - int(batch[0].id.partition("-")[0]) / 1000)
        if now_s >= next_s:
            new.write_text(json.dumps({"events": events, "worst_s": worst_s}))
            new.replace(file)
            next_s = now_s + 1


if __name__ == "__main__":
    main()
