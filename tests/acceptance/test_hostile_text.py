"""Whatever is printed, and wherever it comes from: nothing in it that a terminal would obey, or show as something else.

Every place that prints (each command, each of its forms, the log) meets every source: kernel lines, copytools, names of
MDT folders, entries, heartbeats, state files, errors of Redis, the configuration, names of files, and arguments.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator

import pytest

from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.state.maintenance_log import runs_file
from hsm_shipper.state.poll_status import state_file
from tests.acceptance.conftest import MakeServer
from tests.support.hostile import EVIL, EvilRedis, obeyed, strange
from tests.support.readings import event_data
from tests.support.shipper import COMMAND, MetadataServer, action_line, clean_environment
from tests.support.site import MDT, STREAM, SimulatedServer
from tests.support.waiting import DEADLINE_S, eventually

OTHER = "hsm:actions:elm-MDT0001"
READ = (
    ("hsm-stream-tail", "--run-once", "--no-paths"),
    ("hsm-stream-tail", "--run-once", "--no-paths", "--json"),
    ("hsm-stream-tail", "-n", "50", "--no-follow", "--no-paths", "--refreshes"),
    ("hsm-stream-tail", "-n", "50", "--no-follow", "--no-paths", "--format", "{mdt} {status} {fid} {host} {x}"),
    ("hsm-action-top", "--run-once"),
    ("hsm-stream-stats",),
    ("hsm-stream-stats", "--format", "json-list"),
    ("hsm-stream-stats", "--format", "table"),
    ("hsm-stream-stats", "--format", "prometheus"),
    ("hsm-stream-stats", "--format", "influx"),
    ("hsm-stream-reconciler",),
    ("hsm-stream-reconciler", "--json"),
    ("hsm-stream-reconciler", "--here"),
    ("hsm-stream-reconciler", "--here", "--json"),
    ("hsm-stream-reconciler", "--fix", "--dry-run"),
    ("hsm-stream-reconciler", "--retire", "elm-MDT0001", "--dry-run"),
)
SHIPPED = (
    ("hsm-action-shipper", "check"),
    ("hsm-action-shipper", "check", "--json"),
    ("hsm-action-shipper", "status"),
    ("hsm-action-shipper", "status", "--json"),
    ("hsm-action-shipper", "--run-once", "--maintenance-now"),
)


def told(server: MetadataServer, *command: str, **environ: str) -> str:
    """What a command prints, which may fail, but has to say so in words."""
    done = subprocess.run(
        [str(COMMAND.with_name(command[0])), "-c", str(server.config), *command[1:]],
        env=clean_environment() | {"PYTHONIOENCODING": "utf-8"} | environ,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    text = (done.stdout + done.stderr).decode()
    assert text and "Traceback" not in text
    return text


@pytest.fixture
def evil(make_server: MakeServer) -> SimulatedServer:
    """A server on which everything is hostile that somebody else writes; nothing runs, one poll was made."""
    server = make_server()
    mark = EVIL.encode().replace(b"\n", b"")
    lines = (action_line(1), action_line(2)[:-2] + mark + b"]\n", mark + b"\n", b"idx=1/9] " + mark + b"\n")
    actions = server.add_mdt(MDT, *lines)
    agents = b"uuid=" + mark.replace(b" ", b"") + b" archive_id=1 requests=[current:1 ok:1 errors:1]\n" + mark
    actions.with_name("agents").write_bytes(agents)
    for name in ("hsm_control", "hsm/grace_delay", "hsm/max_requests"):
        path = actions.parents[1] / name
        path.write_bytes(mark)
    for name in ("x\x1b[2J-MDT0000", "\u202egpj-MDT0001", "a\nb-MDT0002", os.fsdecode(b"\xff\x9b-MDT0003")):
        (server.mdt_folder / name / "hsm").mkdir(parents=True)
        (server.mdt_folder / name / "hsm/actions").write_bytes(action_line(1))
    for stream in (STREAM, OTHER):
        beat = {"host": "h", "pid": 1, "mdt": MDT, "last_poll_at": 1.0, "last_poll_duration_s": 1.0, "lines": 1}
        beat |= {"poll_interval_s": 20.0, "live": 1, "backlog": 0, "last_error": "e", "hsm_control": "c"}
        copytool = {"uuid": "u", "archive_ids": [1], "current": 1, "ok": 1, "errors": 1}
        beat |= {"copytools": [copytool], "agents_not_understood": 0}
        server.redis.set(heartbeat_key("hsm:actions", stream.rpartition(":")[2]), json.dumps(strange(beat)))
        for n in range(4):
            kind = ("NEW", "UPDATE", "PURGED", "NEW")[n]
            event = event_data(n, host="h", raw="lrh=", x="y", refresh=n == 1)
            data = strange(event) | {"event_type": kind, "last_status": EVIL}
            server.redis.xadd(stream, {"data": json.dumps(data, ensure_ascii=n % 2 == 0)})
        server.redis.xadd(stream, {"data": EVIL, EVIL: EVIL})
        server.redis.xadd(stream, {"data": json.dumps({"event_type": EVIL, "hash": EVIL})})
    return server


@pytest.mark.parametrize("command", READ, ids=" ".join)
def test_what_reads_the_streams(evil: SimulatedServer, command: tuple[str, ...]) -> None:
    text = told(evil, *command)
    assert obeyed(text) == "" and "\nFAKE" not in text, text


def test_commands_of_the_shipper(evil: SimulatedServer) -> None:
    told(evil, "hsm-action-shipper", "--run-once")
    with sqlite3.connect(state_file(evil.state_dir, MDT)) as state:
        state.execute("UPDATE poll_status SET last_error = ?, last_error_at = last_poll_at", (EVIL,))
    state.close()
    told(evil, "hsm-action-shipper", "--run-once", "--maintenance-now")
    with sqlite3.connect(runs_file(evil.state_dir)) as runs:
        runs.execute("UPDATE runs SET error = ?, host = ?", (EVIL, EVIL))
    runs.close()
    for command in SHIPPED:
        text = told(evil, *command)
        assert obeyed(text) == "" and "\nFAKE" not in text, text


def test_the_log(evil: SimulatedServer) -> None:
    evil.configure(log_level="DEBUG")
    evil.start()
    evil.wait_polled_by(MDT)
    eventually(lambda: "passed over" in evil.log.read_text())
    text = evil.log.read_bytes().decode() + told(evil, "hsm-action-shipper", "maintain") + told(evil, *SHIPPED[2])
    assert obeyed(text + evil.supervisorctl("status")) == "" and "\nFAKE" not in text
    assert evil.stop() == 0
    assert obeyed(evil.log.read_bytes().decode()) == ""


@pytest.fixture(params=["ERR", "NOPERM", "WRONGTYPE"])
def evil_redis(request: pytest.FixtureRequest, make_server: MakeServer) -> Iterator[SimulatedServer]:
    """A server whose Redis answers with nothing but hostile errors."""
    answering = EvilRedis(request.param)
    server = make_server()
    server.add_mdt(MDT, action_line(1))
    server.configure(redis_port=answering.port)
    yield server
    answering.close()


def test_errors_of_redis(evil_redis: SimulatedServer) -> None:
    for command in (READ[0], READ[4], READ[7], READ[10], READ[15], SHIPPED[0], SHIPPED[4]):
        text = told(evil_redis, *command)
        assert obeyed(text) == "" and "\nFAKE" not in text, text


@pytest.mark.parametrize(
    "keys",
    [
        {"host": f"h{EVIL}"},
        {"redis_stream_prefix": "hsm\u202e"},
        {"redis_stream_prefix": "hsm\x9b2J"},
        {"redis_url": f"redis://h{EVIL}/1"},
        {"redis_password_file": f"/tmp/{EVIL}"},
        {"redis_tls_ca_file": f"/tmp/{EVIL}", "redis_url": "rediss://127.0.0.1:1/0"},
        {"mdt_watch_glob": f"/tmp/{EVIL}/*/hsm/actions"},
        {"state_dir": f"/tmp/{EVIL}"},
        {"run_dir": f"/tmp/{EVIL}"},
        {"log_file": f"/tmp/{EVIL}"},
        {"reconcile_schedule": EVIL},
        {"log_level": EVIL},
        {"poll_interval": EVIL},
        {"redis_read_from": EVIL},
        {EVIL: 1},
        {"poll_intervall": EVIL},
        {"mountpoint": f"/tmp/{EVIL}"},
    ],
    ids=lambda keys: next(iter(keys)).replace(EVIL, "key")[:20],
)
def test_the_configuration(server: SimulatedServer, keys: dict[str, object]) -> None:
    server.configure(redis_port=1, **keys)
    for command in (SHIPPED[0], READ[0]):
        assert obeyed(told(server, *command)) == "", command


def test_what_is_no_yaml(server: SimulatedServer) -> None:
    for text in (EVIL, f"a: b: {EVIL}", f"!!{EVIL} x", f"%{EVIL}", f"- {EVIL}", f"a: *{EVIL}"):
        server.config.write_text(text, encoding="utf-8")
        for command in (SHIPPED[0], READ[0]):
            assert obeyed(told(server, *command)) == "", (command, text)


def test_variables_of_the_environment(server: SimulatedServer) -> None:
    environ = {f"HSM_{EVIL}": "1", "HSM_HOST": EVIL, "HSM_LOG_LEVEL": EVIL}
    for name, value in environ.items():
        for command in (SHIPPED[0], READ[0]):
            assert obeyed(told(server, *command, **{name: value})) == "", (command, name)


# The words of an argument that is one of ours, and what may be named.
ARGUMENTS = (
    ("hsm-action-shipper", EVIL),
    ("hsm-action-shipper", f"--{EVIL}"),
    ("hsm-action-shipper", "status", EVIL),
    ("hsm-action-shipper", "maintain", EVIL),
    ("hsm-action-shipper", "-c", f"/tmp/{EVIL}", "check"),
    ("hsm-action-shipper", "-c", f"/tmp/{EVIL}", "--run-once"),
    ("hsm-stream-tail", f"--{EVIL}"),
    ("hsm-stream-tail", "--since", EVIL),
    ("hsm-stream-tail", "--host", EVIL),
    ("hsm-stream-tail", "--host", "127.0.0.1", "--port", EVIL),
    ("hsm-stream-tail", "--prefix", EVIL, "--run-once"),
    ("hsm-stream-tail", "--format", f"{{{EVIL}}}"),
    ("hsm-stream-tail", "--format", EVIL, "--run-once"),
    ("hsm-stream-tail", "--mdt", EVIL, "--run-once"),
    ("hsm-stream-tail", "--mount", f"x=/{EVIL}", "--run-once"),
    ("hsm-stream-tail", "-c", f"/tmp/{EVIL}"),
    ("hsm-action-top", "--sort", EVIL),
    ("hsm-action-top", "--run-once", "--action", EVIL),
    ("hsm-stream-stats", "--format", EVIL),
    ("hsm-stream-stats", "--output", f"/nowhere/{EVIL}"),
    ("hsm-stream-stats", "--listen", EVIL),
    ("hsm-stream-reconciler", EVIL),
    ("hsm-stream-reconciler", "--mdt", EVIL),
    ("hsm-stream-reconciler", "--retire", EVIL),
    ("hsm-stream-reconciler", "--state-dir", f"/tmp/{EVIL}"),
)


@pytest.mark.parametrize("command", ARGUMENTS, ids=lambda command: " ".join(command).partition("\x1b")[0].strip())
def test_arguments(server: SimulatedServer, command: tuple[str, ...]) -> None:
    text = told(server, *command)
    assert obeyed(text) == "" and "\nFAKE" not in text, text


def test_names_of_files_in_the_folders_of_the_shipper(evil: SimulatedServer) -> None:
    evil.state_dir.mkdir()
    for name in (f"{EVIL}-MDT0000.sqlite3", "x\x1b[2J-MDT0000.sqlite3", ".broken", f"{EVIL}.lock"):
        (evil.state_dir / name.replace("/", "")).write_bytes(b"no database")
    for command in (*SHIPPED, *READ[12:]):
        assert obeyed(told(evil, *command)) == "", command
