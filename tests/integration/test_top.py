"""`hsm-action-top --run-once` and `--batch`: frames of text."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import PrivateServer
from tests.support.dashboards import COMMAND, ENVIRONMENT, Streams, event
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import DEADLINE_S, eventually

A, B = "elm-MDT0000", "elm-MDT0001"
ONE_FRAME = """\
--- Lustre HSM Action Dashboard ---
| Redis: Connected
Viewer Status: One look at the streams
Live Actions: 1,004 | Total Events Processed: 1,404 | Last 

--- Live Action Count by (MDT, Action, Status) ---
MDT         | ACTION  | STATUS     |      COUNT DIFF
----------------------------------------------------------
elm-MDT0000 | ARCHIVE | WAITING    |      1,000 
elm-MDT0000 | RESTORE | STARTED    |          3 
elm-MDT0001 | REMOVE  | FAILED     |          1 

ALERT elm-MDT0001: no heartbeat: no shipper, or it hangs or cannot reach Redis
"""  # noqa: W291


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    return Streams(redis_server, redis_db)


def frames(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    """The frames as they come; each is yielded when the next one begins."""
    assert process.stdout is not None
    lines: list[str] = []
    for text in process.stdout:
        line = text.removesuffix("\n")
        if line.startswith("--- Lustre HSM") and lines:
            yield lines[:-1]
            lines = []
        lines.append(line)


def without_times(text: str) -> str:
    return re.sub(r"Time: \S+ \S+ |Event: \w+ ago", "", text)


def test_run_once_prints_one_frame(streams: Streams) -> None:
    streams.new(A, range(1200))
    streams.new(A, range(2000, 2003), "STARTED", action="RESTORE")
    streams.add(A, *(event(A, rec, "PURGED", "SUCCEED") for rec in range(1000, 1200)))
    streams.new(B, [1], "FAILED", action="REMOVE")
    streams.beat(A)
    done = streams.run("--run-once")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^Time: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| ", done.stdout, re.MULTILINE)
    assert without_times(done.stdout) == ONE_FRAME


def test_an_empty_server_is_no_error(streams: Streams) -> None:
    done = streams.run("--run-once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Last Event: never" in done.stdout
    assert done.stdout.endswith("\nNo live actions: 0 streams.\n")


def test_the_filters_choose_the_rows(streams: Streams) -> None:
    streams.new(A, range(3))
    streams.new(B, range(5), "FAILED")
    done = streams.run("--run-once", "--mdt", "*1", "--status", "failed,canceled")
    assert "Live Actions: 5 of 8 |" in done.stdout
    assert "elm-MDT0001 | ARCHIVE | FAILED " in done.stdout
    assert "elm-MDT0000 | ARCHIVE" not in done.stdout
    assert "No live action passes the filters." in streams.run("--run-once", "--mdt", "none*").stdout


def test_batch_prints_frames_with_what_changed_between_them(streams: Streams) -> None:
    streams.new(A, range(3))
    streams.new(B, [1], "STARTED")
    streams.beat(A)
    streams.beat(B)
    process = streams.start("-b", "-n", "4", "-d", "0.2")
    with process:
        shown = frames(process)
        first = next(shown)
        assert first[2] == "Viewer Status: Listening for live updates..."
        assert first[-2:] == [
            "elm-MDT0000 | ARCHIVE | WAITING    |          3 ",
            "elm-MDT0001 | ARCHIVE | STARTED    |          1 ",
        ]
        streams.new(A, range(3, 1500))
        streams.add(B, event(B, 1, "PURGED", "SUCCEED"))
        rest = [row for frame in [*shown] for row in frame[8:]]
        assert rest.count("elm-MDT0000 | ARCHIVE | WAITING    |      1,500 (+1,497)") <= 1
        assert rest.count("elm-MDT0001 | ARCHIVE | STARTED    |          0 (-1)") <= 1
    assert process.returncode == 0


def test_batch_goes_on_after_a_look_that_took_longer_than_the_delay(private_server: PrivateServer) -> None:
    server = private_server()
    streams = Streams(server, 0)
    streams.new(A, range(3))
    with streams.start("-b", "-n", "6", "-d", "0.1") as process:
        shown = frames(process)
        next(shown)
        server.pause()
        time.sleep(1)  # several times the delay, less than what makes a server that does not answer one that is away
        server.resume()
        assert len([*shown]) == 4, "all but the first and the last, which no other ends"
    assert process.returncode == 0


def test_a_pipe_that_is_closed_between_two_frames_ends_it(streams: Streams) -> None:
    """As of `hsm-action-top -b -d 3600 | head`."""
    streams.new(A, range(3))
    with streams.start("-b", "-d", "3600") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("--- Lustre HSM")
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 141


@pytest.mark.parametrize("option", ["-d", "--interval"])  # the name of earlier releases
def test_frames_are_separated_by_an_empty_line_and_counted(streams: Streams, option: str) -> None:
    streams.new(A, range(3))
    done = streams.run("--batch", "-n", "3", option, "0.1")
    assert done.stdout.count("--- Lustre HSM Action Dashboard ---") == 3
    assert done.stdout.count("\n\n--- Lustre HSM Action Dashboard ---") == 2


@pytest.mark.parametrize("options", [("--run-once",), ("-b", "-n", "2", "-d", "0.1")])
def test_text_never_holds_an_escape_code(streams: Streams, options: tuple[str, ...]) -> None:
    streams.add(A, event(A, 1, status="\x1b[31mRED\x1b[0m", action="\u009b2J\x07", raw=None))
    done = streams.run(*options, TERM="xterm-256color", CLICOLOR_FORCE="1", FORCE_COLOR="1")
    assert done.returncode == 0
    assert "\\x1b[31mRED" in done.stdout
    assert "".join(done.stdout.splitlines()).isprintable()


@pytest.mark.parametrize("options", [["--run-once"], ["-b", "-n", "2", "-d", "0.1"]])
def test_text_is_printed_without_textual(streams: Streams, options: list[str]) -> None:
    program = (
        "import sys; from hsm_tools.top import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ', '.join({'textual', 'rich'} & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *streams.where, *options], env=ENVIRONMENT, check=False)
    assert done.returncode == 0


def test_help_needs_neither_redis_nor_textual() -> None:
    program = (
        "import sys; from hsm_tools.dashboard.top_options import parser; import hsm_tools.top; parser().format_help(); "
        "sys.exit(', '.join({'redis', 'msgspec', 'textual', 'asyncio'} & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_terminal_the_dashboard_says_what_to_do(streams: Streams) -> None:
    done = streams.run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "hsm-action-top: the dashboard needs a terminal, and stdin is none; print frames with --batch or --run-once\n"
    )


@pytest.mark.parametrize("options", [["--run-once"], ["-b"]])
def test_without_redis_it_is_one_line_and_exit_code_1(options: list[str]) -> None:
    where = ["--host", "127.0.0.1", "--port", str(free_port())]
    done = subprocess.run([COMMAND, *where, *options], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("hsm-action-top: no answer from Redis at redis://127.0.0.1:")


@pytest.mark.parametrize("options", [["--run-once"], ["-b", "-n", "2", "-d", "0.1"]])
def test_a_part_is_no_success(private_server: PrivateServer, options: list[str]) -> None:
    server = private_server()
    streams = Streams(server, 0)
    for mdt in (A, B):
        streams.new(mdt, range(3))
        streams.beat(mdt)
    streams.where = ["--redis-url", f"redis://one:word@{server.host}:{server.port}/0"]
    user = ["one", "on", ">word", "resetkeys", f"%R~hsm:actions:{A}*", "%R~*heartbeat", "+@all"]
    streams.client.execute_command("ACL", "SETUSER", *user)  # type: ignore[no-untyped-call]
    done = streams.run(*options)
    assert f"{A} | ARCHIVE | WAITING    |          3 " in done.stdout
    assert f"ALERT {B}: hsm:actions:{B} cannot be read" in done.stdout.splitlines()[-1]
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    streams.client.execute_command("ACL", "SETUSER", "one", "allkeys")  # type: ignore[no-untyped-call]
    assert streams.run(*options).returncode == 0


def test_batch_survives_a_restart_of_redis_with_the_last_state_shown(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    streams = Streams(server, 0)
    streams.new(A, range(5))
    streams.beat(A)
    with streams.start("-b", "-d", "0.1") as process:
        shown = frames(process)
        next(shown)
        server.kill()
        away = next(frame for frame in shown if "Disconnected since" in frame[1])
        assert "elm-MDT0000 | ARCHIVE | WAITING    |          5 " in away
        assert away[-1].startswith("ALERT no answer from Redis at redis://127.0.0.1")
        server.start()
        streams.new(A, range(5, 7))
        back = next(frame for frame in shown if any("|          7 (+2)" in row for row in frame))
        assert back[1].endswith("| Redis: Connected")
        process.terminate()
        process.communicate()


def test_a_flush_between_two_frames_is_said(streams: Streams) -> None:
    streams.new(A, range(5))
    streams.beat(A)
    with streams.start("-b", "-d", "0.1") as process:
        shown = frames(process)
        next(shown)
        streams.client.flushdb()
        frame = next(frame for frame in shown if any("its stream vanished" in line for line in frame))
        assert frame[-1].startswith("ALERT elm-MDT0000: its stream vanished")
        process.terminate()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_it_quietly(streams: Streams, number: signal.Signals, code: int) -> None:
    streams.new(A, range(5))
    with streams.start("-b", "-d", "0.1") as process:
        next(frames(process))
        process.send_signal(number)
        _, said = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, said) == (code, "")


def test_a_reader_that_closes_the_pipe_ends_it_quietly(streams: Streams) -> None:
    streams.new(A, range(5))
    with streams.start("-b", "-d", "0.1") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=DEADLINE_S) == 141
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-n", "3"], "-n goes with --batch; add -b"),
        (["-b", "-n", "0"], "'0' is no whole number from 1"),
        (["-b", "-d", "0"], "'0' is no number of seconds from 0.1 to 3600"),
        (["-b", "-d", "nan"], "'nan' is no number of seconds"),
        (["-b", "--run-once"], "not allowed with argument"),
        (["--run-once", "--no-paths", "--mount", "/x"], "--mount is of no use with --no-paths"),
        (["--run-once", "--stream-prefix", "a*"], "cannot be used"),
    ],
)
def test_options_that_cannot_be_used_are_exit_code_2(streams: Streams, options: list[str], said: str) -> None:
    done = streams.run(*options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr.splitlines()[-1]


def test_a_look_takes_its_turn_at_the_delay(streams: Streams) -> None:
    streams.new(A, range(5))
    begun_s = time.monotonic()
    with streams.start("-b", "-n", "4", "-d", "0.3") as process:
        list(frames(process))
        assert time.monotonic() - begun_s > 0.85
    eventually(lambda: process.returncode == 0)
