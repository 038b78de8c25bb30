"""The programs in docs/consumers.md, as they stand there, against a real server and a shipper's own events."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.core import KEY, OneMdt, line, shipper_client
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, eventually

DOCUMENT = Path(__file__).parents[2] / "docs" / "consumers.md"
PROGRAM = re.compile(r"```python\n(#!/usr/bin/env python3\n# (\w+\.py) (.*?)\n```)", re.DOTALL)
PROGRAMS = {name: f"{text}".removesuffix("```") for text, name, _ in PROGRAM.findall(DOCUMENT.read_text())}
FIDS = [f"0x200000401:{n:#x}:0x0" for n in range(10)]

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def mdt(tmp_path: Path, redis_server: RedisServer, redis_db: int) -> OneMdt:
    """Its polls write the stream of elm-MDT0000."""
    return OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db))


@pytest.fixture
def url(redis_server: RedisServer, redis_db: int) -> str:
    return f"{redis_server.url}/{redis_db}"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a program of the document."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *args: object) -> subprocess.Popen[str]:
        program = tmp_path / name
        program.write_text(PROGRAMS[name])
        started.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", program, *map(str, args)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ctrl+C: what it has written since."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=DEADLINE_S)


def test_every_program_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert len(PROGRAMS) == 5
    assert all(f'run("{name}"' in source for name in PROGRAMS)


def test_the_failure_alerter_misses_nothing_while_it_is_away(mdt: OneMdt, url: str, run: Run, tmp_path: Path) -> None:
    mdt.poll(line(1), line(2))
    position, another = tmp_path / "position.json", tmp_path / "position.new"
    another.write_text("of another program")
    first = run("alert_on_failure.py", url, position)
    eventually(position.exists)
    mdt.poll(line(1, "FAILED"), line(2, "STARTED"))
    assert first.stdout is not None
    assert f"elm-MDT0000: 'ARCHIVE' of '{FIDS[1]}' failed in archive 1" in first.stdout.readline()
    eventually(lambda: json.loads(position.read_text()) == {"hsm:actions:elm-MDT0000": _last_id(mdt.client)})
    assert interrupt(first) == ("", "")
    mdt.poll(line(1, "FAILED"), line(2, "FAILED"))
    again = run("alert_on_failure.py", url, position)
    assert again.stdout is not None
    assert FIDS[2] in again.stdout.readline()
    assert interrupt(again) == ("", "")
    assert another.read_text() == "of another program"


def test_the_failure_alerter_that_never_reached_redis_does_not_begin_with_what_is_long_past(
    mdt: OneMdt, url: str, run: Run, tmp_path: Path
) -> None:
    mdt.poll(line(1, "FAILED"), line(2))
    position = tmp_path / "position.json"
    away = run("alert_on_failure.py", "redis://127.0.0.1:1/0", position)
    assert "no answer from Redis" in away.communicate(timeout=DEADLINE_S)[1]
    alerter = run("alert_on_failure.py", url, position)
    eventually(position.exists)
    mdt.poll(line(1, "FAILED"), line(2, "FAILED"))
    assert alerter.stdout is not None
    assert FIDS[2] in alerter.stdout.readline()


class Webhook:
    """A web server that refuses the first `refusals` posts and keeps the texts of the others."""

    def __init__(self, refusals: int) -> None:
        self.texts: list[str] = []
        self.refused = 0
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                if webhook.refused < refusals:
                    webhook.refused += 1
                    self.send_error(503)
                    return
                webhook.texts.append(text)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook(refusals=2)
    yield webhook
    webhook.close()


def test_the_webhook_poster_retries_and_loses_nothing(mdt: OneMdt, url: str, run: Run, webhook: Webhook) -> None:
    mdt.poll(line(9))
    first = run("post_to_webhook.py", url, webhook.url, "me")
    eventually(lambda: mdt.client.xinfo_groups(KEY))
    mdt.poll(*(line(n) for n in (1, 2, 3, 9)))
    mdt.poll(line(1, "SUCCEED"), line(2, "FAILED"), line(3), line(9))
    for _ in range(2):  # the first such reading is not believed
        mdt.poll(line(9))
    eventually(lambda: webhook.refused)
    first.kill()  # in the middle of it
    first.communicate()
    second = run("post_to_webhook.py", url, webhook.url, "me")
    eventually(lambda: len(set(webhook.texts)) == 3 and not mdt.client.xpending(KEY, "webhook")["pending"])
    assert sorted({text.partition(" after ")[0] for text in webhook.texts}) == [
        f"elm-MDT0000: ARCHIVE of {FIDS[1]}: SUCCEED",
        f"elm-MDT0000: ARCHIVE of {FIDS[2]}: FAILED",
        f"elm-MDT0000: ARCHIVE of {FIDS[3]}: WAITING",
    ]
    out, err = interrupt(second)
    assert (out, re.sub("cannot post .*\n", "", err)) == ("", "")


def test_the_latency_of_restores(mdt: OneMdt, url: str, run: Run) -> None:
    for n, (begun_s, ended_s) in enumerate([(100, 130), (200, 210), (300, 350)], 1):
        stream = f"hsm:actions:elm-MDT000{n // 3}"
        for status in ("WAITING", "SUCCEED", "PURGED"):
            data: dict[str, Any] = {"event_type": "PURGED" if status == "PURGED" else "UPDATE", "status": status}
            data |= {"cat_idx": 1, "rec_idx": n, "action": "RESTORE", "fid": FIDS[n], "cookie": hex(n)}
            data |= {"first_seen": begun_s, "status_since": ended_s, "timestamp": ended_s + 60}
            data |= {"last_status": "SUCCEED"} if status == "PURGED" else {}
            mdt.client.xadd(stream, {"data": json.dumps(data)})
    out, err = run("restore_latency.py", url).communicate(timeout=DEADLINE_S)
    assert err == ""
    assert out == (
        "elm-MDT0000: 2 restores, median 20 s, 95 % within 29 s, at most 30 s\n"
        "elm-MDT0001: 1 restores, median 50 s, 95 % within 50 s, at most 50 s\n"
    )


def test_a_program_that_ends_says_why_it_cannot(run: Run) -> None:
    process = run("restore_latency.py", "redis://127.0.0.1:1/0")
    assert "no answer from Redis at redis://127.0.0.1:1/0" in process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 1


def test_what_has_waited_longest(mdt: OneMdt, url: str, run: Run) -> None:
    mdt.poll(line(1), line(2))
    mdt.poll(line(1), line(2, "STARTED"), line(3))
    out, err = run("oldest_waiting.py", url).communicate(timeout=DEADLINE_S)
    assert err == ""
    lines = [re.sub(r"waited \d+ s", "waited N s", text) for text in out.splitlines()]
    assert lines[:2] == ["elm-MDT0000 ARCHIVE STARTED 1", "elm-MDT0000 ARCHIVE WAITING 2"]
    assert lines[2] == "elm-MDT0000 is not polled: this is how it was when its shipper stopped"
    assert sorted(lines[3:]) == [f"elm-MDT0000 ARCHIVE of {FIDS[n]} has waited N s" for n in (1, 3)]


def test_who_waits_again_has_not_waited_since_it_was_first_seen(mdt: OneMdt, url: str, run: Run) -> None:
    waiting = {"event_type": "NEW", "cat_idx": 1, "action": "ARCHIVE", "status": "WAITING"}
    for n, times in enumerate(({"first_seen": 100, "status_since": 900}, {"timestamp": 500}, {"first_seen": 1})):
        mdt.client.xadd(KEY, {"data": json.dumps(waiting | {"rec_idx": n, "fid": FIDS[n]} | times)})
    out, err = run("oldest_waiting.py", url).communicate(timeout=DEADLINE_S)
    assert err == ""
    assert [text.split()[3] for text in out.splitlines()[2:]] == [FIDS[1], FIDS[0]]


def test_the_first_lines_take_what_an_earlier_shipper_wrote(mdt: OneMdt, url: str, tmp_path: Path) -> None:
    mdt.client.xadd(KEY, {"data": json.dumps({"event_type": "PURGED", "action_key": f"{FIDS[1]}:ARCHIVE"})})
    first = re.search("```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert first is not None
    whole = first[1].replace('StreamReader(host="redis").events()', f"StreamReader(redis_url={url!r}).history()")
    done = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.stdout, done.stderr) == ("elm-MDT0000 None None None\n", "")


def test_the_busiest_mdts(mdt: OneMdt, url: str, run: Run) -> None:
    mdt.poll(line(1), line(2))
    assert run("busy_mdts.py", url, 1).communicate(timeout=DEADLINE_S) == ("elm-MDT0000 2\n", "")


def _last_id(client: redis.Redis) -> str:
    info: dict[str, bytes] = client.xinfo_stream("hsm:actions:elm-MDT0000")
    return info["last-generated-id"].decode()
