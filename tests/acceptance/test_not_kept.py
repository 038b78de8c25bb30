"""A shipper whose entries reach too few replicas: log, heartbeat, `status`, `check` and tools say so, until they do."""

from __future__ import annotations

import json
import subprocess

from hsm_shipper.contract.heartbeat import decode
from hsm_shipper.contract.redis_keys import heartbeat_key
from tests.acceptance.conftest import MakeServer
from tests.conftest import PrivateServer
from tests.support.shipper import COMMAND, action_line, clean_environment
from tests.support.site import MDT, SimulatedServer
from tests.support.waiting import DEADLINE_S, eventually

SAID = "reached 0 of 1 replicas after 0.1 s"


def last_error(server: SimulatedServer) -> str:
    """What the heartbeat says."""
    beat = server.redis.get(heartbeat_key("hsm:actions", MDT))
    told = None if beat is None else decode(beat)  # type: ignore[arg-type]
    return "" if told is None else told.last_error or ""


def said_by(server: SimulatedServer, name: str, *arguments: str) -> str:
    """What a tool prints."""
    command = [str(COMMAND.with_name(name)), "-c", str(server.config), *arguments]
    environment = clean_environment()
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    ).stdout


def test_it_is_told_until_it_is_over(make_server: MakeServer, private_server: PrivateServer) -> None:
    primary, replica = (private_server(repl_diskless_sync_delay="0") for _ in range(2))
    replica.follow(primary)
    server = make_server(redis=primary, redis_wait_replicas=1, redis_wait_timeout=0.1, poll_interval=0.2)
    actions = server.add_mdt(MDT, action_line(1))
    server.start()
    server.wait_events(MDT, 1)
    replica.kill()
    actions.write_bytes(action_line(1) + action_line(2))
    eventually(lambda: SAID in last_error(server))
    assert len(server.events(MDT)) <= 2  # one, where a poll came between the replica's end and the new list
    told = json.loads(server.run("status", "--json").stdout)["mdts"][0]
    assert SAID in told["poll"]["last_error"]
    assert any(SAID in trouble for trouble in told["troubles"])
    assert SAID in said_by(server, "hsm-action-top", "--run-once") + said_by(server, "hsm-stream-stats")
    more = polls(server) + 10
    eventually(lambda: polls(server) > more)
    assert server.log.read_text().count(SAID) < 5
    found = json.loads(server.run("check", "--json").stdout)["findings"]
    assert [SAID in finding["text"] for finding in found if finding["level"] == "problem"] == [True]
    replica.start().follow(primary)
    eventually(lambda: not last_error(server))
    assert len(server.events(MDT)) == 2
    assert "recovered after" in server.log.read_text()
    assert server.stop() == 0


def polls(server: SimulatedServer) -> int:
    """How many polls were made."""
    told = json.loads(server.run("status", "--json").stdout)["mdts"][0]["poll"]
    return int(told["polls"])
