"""Removes the stream of an MDT that is no more, with the keys beside it."""

from __future__ import annotations

import sys

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import heartbeat_key, maintenance_key, stream_key
from hsm_shipper.errors import ConfigError, HsmError
from hsm_shipper.lustre.mdts import Present
from hsm_shipper.process.output import printable
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.stream.connection import Clients, address
from hsm_shipper.stream.stream import ActionStream


def retire(config: Config, clients: Clients, present: Present, mdt: str, *, yes: bool, dry_run: bool) -> str:
    """Remove the stream of `mdt`, once a person agrees or with `yes`; returns what was done, or would be.

    Raises `HsmError` where the MDT shows any sign of life, `StreamError` if Redis fails.
    """
    _check_not_here(config, present, mdt)
    prefix = config.redis_stream_prefix
    key, heartbeat = stream_key(prefix, mdt), heartbeat_key(prefix, mdt)
    client = clients.of(key)
    stream = ActionStream(client, key, address(config))
    with stream.translated("remove"), client.pipeline() as transaction:
        transaction.watch(key, heartbeat)  # type: ignore[no-untyped-call]
        if transaction.exists(heartbeat):
            raise HsmError(f"{mdt} is alive: a worker sends heartbeats ({heartbeat})", "unmount the MDT for good first")
        entries: int = transaction.xlen(key)
        if not transaction.exists(key):
            raise HsmError(f"there is no stream {key} at {stream.address}", "see the list: hsm-stream-reconciler")
        what = f"stream {key} at {stream.address} with its {entries:,} entries"
        if dry_run:
            return f"would remove {what}"
        if not (yes or _agreed(what)):
            return f"kept {what}"
        transaction.multi()
        transaction.delete(key, heartbeat, maintenance_key(prefix, mdt))
        try:
            transaction.execute()
        except redis.WatchError:
            raise HsmError(f"{mdt} is alive: something was written to {key} just now", "nothing was removed") from None
    return f"removed {what}"


def _check_not_here(config: Config, present: Present, mdt: str) -> None:
    if mdt in present.mdts:
        raise HsmError(f"{mdt} is on this server ({present.mdts[mdt]})", "unmount it for good first")
    if present.unreadable:
        raise HsmError(f"whether {mdt} is on this server cannot be told: {present.unreadable[0]}", "run it as root")
    path = state_file(config.state_path, mdt)
    if path.exists():
        raise HsmError(f"{mdt} was on this server: its state file {path} is still here", "the shipper removes it")


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked: standard input is no terminal", "agree with --yes")
    sys.stderr.write(f"Remove {printable(what)}, for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
