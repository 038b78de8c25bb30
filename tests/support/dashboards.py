"""What the tests of `hsm-action-top` share: streams with actions and heartbeats, and running the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.agents import Copytool
from hsm_shipper.contract.heartbeat import Heartbeat, encode
from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from hsm_tools.dashboard.data.streams_state import MdtState, StreamsState
from hsm_tools.live_state.health import worker_health
from hsm_tools.live_state.summary import ActionGroup, GroupKey
from tests.support.core import line
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S

COMMAND = str(Path(sys.executable).with_name("hsm-action-top"))
PREFIX = "hsm:actions"
COPYTOOL = Copytool(uuid="80379a60", archive_ids=[1, 2], current=3, ok=120, errors=0)
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("HSM_") and name not in ("NO_COLOR", "TERM")
} | {"TZ": "UTC"}


def heartbeat(mdt: str, **changes: Any) -> Heartbeat:
    """The heartbeat of a worker that has just polled, and is well."""
    fields: dict[str, Any] = {
        "host": "mds1", "pid": 4711, "mdt": mdt, "last_poll_at": time.time(), "last_poll_duration_s": 0.25,
        "poll_interval_s": 20.0, "lines": 10, "live": 10, "backlog": 0, "hsm_control": "enabled", "max_requests": 4,
        "copytools": [COPYTOOL],
    }  # fmt: skip
    return Heartbeat(**(fields | changes))


def event(mdt: str, rec: int, kind: str = "NEW", status: str = "WAITING", **changes: Any) -> dict[str, Any]:
    """The object of an event as our shipper writes it, ten seconds old; the FID follows from `rec`."""
    now = int(time.time())
    action = changes.get("action", "ARCHIVE")
    fid = f"0x200000401:{rec:#x}:0x0"
    data = {
        "event_type": kind, "mdt": mdt, "cat_idx": 1, "rec_idx": rec, "fid": fid, "action": action,
        "status": "PURGED" if kind == "PURGED" else status, "timestamp": now, "action_key": f"{fid}:{action}",
        "cookie": hex(0x6B020000 + rec), "first_seen": now - 10, "status_since": now, "host": "mds1",
    }  # fmt: skip
    if kind == "PURGED":
        data |= {"last_status": status, "hash": "0" * 32}
    elif "raw" not in changes:
        data["raw"] = line(rec, status, action=action, archive_id=7).decode()
    return data | changes


class Streams:
    """The streams in one database of a server."""

    def __init__(self, server: RedisServer, db: int) -> None:
        self.client: redis.Redis = server.client(db)
        self.config = Config(redis_host=server.host, redis_port=server.port, redis_db=db)
        self.where = ["--host", server.host, "--port", str(server.port), "--db", str(db)]

    def add(self, mdt: str, *events: dict[str, Any] | bytes) -> list[str]:
        """Append events to the stream of an MDT; returns the ids of their entries."""
        with self.client.pipeline(transaction=False) as pipe:
            for data in events:
                pipe.xadd(
                    stream_key(PREFIX, mdt), {"data": data if isinstance(data, bytes) else msgspec.json.encode(data)}
                )
            return [entry_id.decode() for entry_id in pipe.execute()]

    def new(self, mdt: str, recs: Iterable[int], status: str = "WAITING", **changes: Any) -> None:
        """Append a NEW for each of `recs`."""
        self.add(mdt, *(event(mdt, rec, "NEW", status, **changes) for rec in recs))

    def beat(self, mdt: str, **changes: Any) -> None:
        """Write the heartbeat of the worker of an MDT."""
        self.client.set(heartbeat_key(PREFIX, mdt), encode(heartbeat(mdt, **changes)))

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, in pipes."""
        return subprocess.run(
            [COMMAND, *self.where, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=ENVIRONMENT | environment, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the command in pipes."""
        return subprocess.Popen(
            [COMMAND, *self.where, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=ENVIRONMENT,
        )  # fmt: skip


def mdt_state(mdt: str, now_s: float, beat: Heartbeat | None = None, **changes: Any) -> MdtState:
    """One MDT, by default in good health."""
    beat = beat or heartbeat(mdt, last_poll_at=now_s - 5)
    state = MdtState(mdt, 0, 0, 0, 0, now_s, beat, worker_health(beat, now_s), None)
    return state._replace(**changes)


def state(groups: dict[tuple[str, str, str], int], now_s: float, *mdts: MdtState, **changes: Any) -> StreamsState:
    """Streams with so many live actions, first seen at 1,000 seconds."""
    counted = {GroupKey(*key): ActionGroup(count, 1000, 1000) for key, count in groups.items()}
    shown = mdts or tuple(
        mdt_state(mdt, now_s, live=sum(count for key, count in groups.items() if key[0] == mdt))
        for mdt in sorted({key[0] for key in groups})
    )
    return StreamsState(now_s, shown, counted, (0,) * 360, {})._replace(**changes)
