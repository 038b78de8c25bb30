"""A child that polls one MDT as its worker does: `python -m benchmarks.poll_child CONFIG MDT ACTIONS`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.child import serve
from hsm_shipper.config import load_config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.stream.connection import connect
from hsm_shipper.worker.main import make_poller


def main(config_file: str, mdt: str, actions: str) -> None:
    """Poll once for each line of standard input, and say what was shipped."""
    config = load_config(Path(config_file), environ={}).config
    actions_file = ActionsFile(Path(actions), hold=config.hold_actions_file)
    client = connect(config, stream_key(config.redis_stream_prefix, mdt))
    poller, replica = make_poller(client, config, mdt, actions_file)

    def poll() -> dict[str, int]:
        result = poller.poll()
        if result.error is not None:
            sys.exit(f"poll failed: {result.error}")
        return dict(result.events)

    serve(poll)
    actions_file.close()
    replica.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
