"""A child that catches up with one stream as a worker does: `python -m benchmarks.catch_up_child CONFIG MDT`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.child import serve
from hsm_shipper.config import load_config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.stream.connection import connect
from hsm_shipper.worker.main import make_poller


def main(config_file: str, mdt: str) -> None:
    """Lose the state and catch up for each line of standard input; says how many actions are live."""
    config = load_config(Path(config_file), environ={}).config
    client = connect(config, stream_key(config.redis_stream_prefix, mdt))
    path = state_file(config.state_path, mdt)
    _, replica = make_poller(client, config, mdt, ActionsFile(Path("/dev/null")))

    def lose_state() -> None:
        replica.close()
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    def catch_up() -> dict[str, int]:
        replica.open()
        replica.catch_up()
        return {"live": len(replica.line_index)}

    serve(catch_up, before=lose_state)
    replica.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
