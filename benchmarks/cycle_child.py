"""A child that maintains one stream as maintenance does: `python -m benchmarks.cycle_child CONFIG MDT`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.child import serve
from hsm_shipper.config import load_config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.maintenance.cycle import run_cycle
from hsm_shipper.process.memory import return_large_blocks, return_memory
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.stream.connection import address, connect
from hsm_shipper.stream.stream import ActionStream


def main(config_file: str, mdt: str) -> None:
    """One cycle for each line of standard input, on the stream as it was at first; says what it read and trimmed."""
    import apscheduler.schedulers.background  # noqa: F401  # the maintenance program holds it in memory as well

    config = load_config(Path(config_file), environ={}).config
    key = stream_key(config.redis_stream_prefix, mdt)
    client = connect(config, key)
    copy = f"copy:{key}"
    client.copy(key, copy, replace=True)

    return_large_blocks()  # as maintenance does, and the other one behind every run

    def restore() -> None:
        return_memory()
        client.copy(copy, key, replace=True)

    def maintain() -> dict[str, int]:
        result = run_cycle(
            mdt,
            state_file(config.state_path, mdt),
            ActionStream(client, key, address(config)),
            aggressive_trim_threshold=config.aggressive_trim_threshold,
            consumer_group_backlog_max=config.consumer_group_backlog_max,
            keep_going=lambda: None,
        )
        return {"trimmed": result.trimmed, "live": result.live, "healed": result.orphans + result.missing}

    serve(maintain, before=restore)


if __name__ == "__main__":
    main(*sys.argv[1:])
