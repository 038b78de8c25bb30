"""Running `hsm-stream-stats` as installed, on the database of a test, and filling that."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from hsm_shipper.contract import heartbeat
from hsm_shipper.contract.agents import Copytool
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from tests.support.core import MDT, earlier_event, line
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, eventually

PREFIX = "hsm:actions"
# What every sample of ours has.
_SOURCE = re.compile(r'(?:^|,)(?:prefix|redis)="[^"]*"')
MDT1 = "oak-MDT0001"  # beside MDT
COMMAND = str(Path(sys.executable).with_name("hsm-stream-stats"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("HSM_")} | {"TZ": "UTC"}


class Site:
    """Streams and heartbeats in one database, and the command that looks at them."""

    def __init__(self, server: RedisServer, db: int, folder: Path) -> None:
        self.client = server.client(db)
        self.where = ["--host", server.host, "--port", str(server.port), "--db", str(db)]
        self.now_s = int(time.time())
        self.command = [COMMAND]
        self._folder = folder
        self._exporters: list[subprocess.Popen[str]] = []

    def add(self, rec: int, status: str = "WAITING", kind: str = "NEW", *, mdt: str = MDT, **changes: Any) -> str:
        """Append an event of ours; it was first seen `ago` seconds ago, and its status began `after` seconds later."""
        first_seen = self.now_s - changes.pop("ago", 100)
        at = first_seen + changes.pop("after", 0)
        event = earlier_event(line(rec, "WAITING"), kind, at) | {"mdt": mdt, "status": status}
        event |= {"first_seen": first_seen, "status_since": at, "cookie": f"{rec:#x}", "host": "mds1"} | changes
        return self.add_raw(msgspec.json.encode(event), mdt)

    def add_raw(self, data: bytes, mdt: str = MDT) -> str:
        """Append an entry that may be anything."""
        entry_id: Any = self.client.xadd(stream_key(PREFIX, mdt), {"data": data})
        return str(entry_id.decode())

    def beat(self, mdt: str = MDT, ago_s: float = 5.0, **changes: Any) -> None:
        """Write the heartbeat of a worker whose last poll was so long ago."""
        fields: dict[str, Any] = {
            "host": "mds1",
            "pid": 1,
            "mdt": mdt,
            "last_poll_at": time.time() - ago_s,
            "last_poll_duration_s": 0.25,
            "last_poll_read_s": 0.125,
            "poll_interval_s": 20.0,
            "lines": 7,
            "live": 6,
            "backlog": 1,
            "backlog_since": time.time() - ago_s - 60,
            "failed_polls": 0,
            "hsm_control": "enabled",
            "lines_not_understood": 0,
            "max_requests": 100,
            "archive_count": 3,
            "restore_count": 0,
            "remove_count": 0,
            "grace_delay_s": 60,
            "loop_period_s": 10,
            "copytools": [Copytool(uuid="80379a60", archive_ids=[1], current=3, ok=120, errors=2)],
        }
        self.client.set(heartbeat_key(PREFIX, mdt), heartbeat.encode(Heartbeat(**fields | changes)))

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end; it never ends in a traceback."""
        done = subprocess.run(
            [COMMAND, *self.where, *options], capture_output=True, text=True, env=ENVIRONMENT | environment,
            timeout=DEADLINE_S, check=False, cwd=self._folder,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done

    def output(self, *options: str) -> str:
        """What it prints when all is well."""
        done = self.run(*options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def report(self, *options: str) -> Any:
        """The JSON report."""
        return json.loads(self.output(*options))

    def export(self, *options: str, listen: str = "127.0.0.1:0") -> Exporter:
        """Start it with `--listen`, and wait until it serves."""
        process = subprocess.Popen(
            [*self.command, *self.where, "--listen", listen, "--interval", "0.1", *options], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=self._folder,
        )  # fmt: skip
        self._exporters.append(process)
        return Exporter(process)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._exporters:
            process.kill()
            process.communicate()
        self.client.close()


class Exporter:
    """A running `hsm-stream-stats --listen`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stderr is not None
        self._stderr = process.stderr
        said = self.next_line()
        match = re.fullmatch(r"hsm-stream-stats: serving (http://(.+)/metrics)\n", said)
        assert match is not None, said
        self.url, self.target = match[1], match[2]

    def next_line(self) -> str:
        """The next line on its standard error, waited for."""
        return self._stderr.readline()

    def scrape(self, **headers: str) -> str:
        """What a scrape is given."""
        from urllib.request import Request, urlopen

        with urlopen(Request(self.url, headers=headers), timeout=DEADLINE_S) as response:
            text: str = response.read().decode()
        return text

    def values(self, name: str) -> dict[str, float]:
        """The samples of one name, by their labels as they are written."""
        return samples(self.scrape(), name)

    def wait(self, name: str, value: float, labels: str = "") -> None:
        """Wait until a sample has that value."""

        def is_so() -> bool:
            with suppress(OSError):
                return self.values(name).get(labels) == value
            return False

        eventually(is_so)


def samples(text: str, name: str) -> dict[str, float]:
    """The samples of one name in the text format, by what is between the braces but for the labels of the source."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {_SOURCE.sub("", labels).strip(","): float(value) for labels, value in found}


def has_ipv6() -> bool:
    """Whether this host has an IPv6 address to listen on."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
