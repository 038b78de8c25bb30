"""Running `hsm-stream-reconciler` as installed, and what it says."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from hsm_shipper.contract.heartbeat import encode
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.state.poll_status import state_file
from tests.support.dashboards import heartbeat
from tests.support.shipper import clean_environment
from tests.support.site import LIVE, MDT, SimulatedServer
from tests.support.waiting import DEADLINE_S

COMMAND = Path(sys.executable).with_name("hsm-stream-reconciler")
CONSISTENT, INCONSISTENT, UNKNOWN = 0, 1, 2


def run(server: SimulatedServer, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The command to its end, with the configuration of `server`; it never ends in a traceback."""
    command = [str(COMMAND), "-c", str(server.config), *arguments]
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False, **more
    )
    assert "Traceback" not in done.stderr
    return done


def audit(server: SimulatedServer, code: int, *arguments: str) -> dict[str, Any]:
    """What it says about the one stream there is, after it ended with the exit code `code`."""
    done = run(server, "--json", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    (mdt,) = json.loads(done.stdout)["mdts"]
    return cast(dict[str, Any], mdt)


def found(report: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Orphans, missing and differing actions."""
    return report["orphans"], report["missing"], report["differing"]


def beat(server: SimulatedServer) -> None:
    """Write a heartbeat as the worker does."""
    beat = heartbeat(MDT, last_poll_duration_s=0.01, poll_interval_s=0.05, lines=LIVE, live=LIVE)
    server.redis.set(heartbeat_key("hsm:actions", MDT), encode(beat))


def poll_long_ago(server: SimulatedServer) -> None:
    """Poll once, a minute ago by what the state file says: then no audit waits for the next poll."""
    assert server.run("--run-once").returncode == 0
    age_poll(server)


def age_poll(server: SimulatedServer) -> None:
    """Have the state file say that its last poll was a minute ago."""
    with closing(sqlite3.connect(state_file(server.state_dir, MDT))) as database, database:
        database.execute("UPDATE poll_status SET last_poll_at = last_poll_at - 60")
