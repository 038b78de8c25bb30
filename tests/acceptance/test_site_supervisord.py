"""The include file of deploy/supervisord under a supervisord of the site's own; and what rotates the log."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hsm_shipper.config import Config
from tests.support.shipper import SUPERVISORCTL, MetadataServer, action_line, clean_environment
from tests.support.waiting import DEADLINE_S, eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
INCLUDE = DEPLOY / "supervisord/hsm-action-shipper.conf"
LOGROTATE = DEPLOY / "logrotate/hsm-shipper"

_SITE = """\
[supervisord]
nodaemon=true
logfile={root}/site.log
pidfile={root}/site.pid
childlogdir={root}
[unix_http_server]
file={root}/site.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files={root}/site.d/*.conf
"""


@contextmanager
def site(server: MetadataServer) -> Iterator[None]:
    """A supervisord of the site's own that runs the include file, with the server's log for its log."""
    root = server.root
    (root / "site.d").mkdir()
    text = INCLUDE.read_text()
    log = re.findall(r"^stdout_logfile=(.*)$", text, re.MULTILINE)[0]
    (root / "site.d/hsm-action-shipper.conf").write_text(text.replace(log, str(server.log)))
    (root / "site.conf").write_text(_SITE.format(root=root))
    process = subprocess.Popen(
        [str(SUPERVISORCTL.with_name("supervisord")), "-c", str(root / "site.conf")],
        env=clean_environment() | server.environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_a_site_runs_it_by_its_own_supervisord(server: MetadataServer) -> None:
    root = server.root
    server.add_mdt("elm-MDT0000", action_line(1))
    with site(server):
        server.wait_events("elm-MDT0000", 1)
        eventually(lambda: "RUNNING" in control(root, "status"))
        pid = server.supervisor.pid()
        assert "hsm-action-shipper: stopped" in control(root, "stop", "hsm-action-shipper")
        assert not Path(f"/proc/{pid}").exists()
        assert "mdt-elm-MDT0000: stopped" in server.log.read_text()

        assert "hsm-action-shipper: started" in control(root, "start", "hsm-action-shipper")
        server.wait_running("elm-MDT0000")
        workers = [program.pid for program in server.programs().values()]
        os.kill(server.supervisor.pid(), signal.SIGKILL)  # they end with it, and it is started again
        eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        server.wait_running("elm-MDT0000")
    assert [event["event_type"] for event in server.events("elm-MDT0000")] == ["NEW"]


def test_what_it_is_with_a_configuration_that_cannot_be_used_is_what_the_file_says(server: MetadataServer) -> None:
    server.configure(poll_interval="never")
    with site(server):
        eventually(lambda: server.log.exists() and server.log.read_text().count("HSM_POLL_INTERVAL") > 1)
        state = eventually(lambda: re.search("BACKOFF|EXITED|FATAL|RUNNING", control(server.root, "status")))
    assert state and state[0] in INCLUDE.read_text()


def control(root: Path, *arguments: str) -> str:
    """What `supervisorctl` of the site's supervisord prints."""
    command = [str(SUPERVISORCTL), "-s", f"unix://{root}/site.sock", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.stdout + done.stderr


def test_the_log_is_rotated_by_the_pid_file_of_the_default_configuration() -> None:
    assert f"{Config().run_dir}/supervisord.pid" in LOGROTATE.read_text()


def test_a_pid_file_that_a_killed_shipper_left_ends_nobody(tmp_path: Path) -> None:
    script = LOGROTATE.read_text().partition("    postrotate\n")[2].partition("    endscript\n")[0]
    script = script.replace("/run/hsm-shipper", str(tmp_path))
    with subprocess.Popen(["sleep", str(DEADLINE_S)]) as somebody_else:
        try:
            for left in (None, "", str(somebody_else.pid), "4194304"):
                if left is not None:
                    (tmp_path / "supervisord.pid").write_text(f"{left}\n")
                done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
                assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        finally:
            somebody_else.terminate()
    assert somebody_else.returncode == -signal.SIGTERM


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="needs logrotate (Debian: apt-get install logrotate)")
def test_a_rotated_log_goes_on(server: MetadataServer) -> None:
    logs = server.root / "logs"
    logs.mkdir()
    server.configure(log_file=f"{logs}/hsm-shipper.log")
    rules = server.root / "rules"
    text = LOGROTATE.read_text().replace("/var/log/hsm-shipper", str(logs))
    rules.write_text(text.replace("/run/hsm-shipper", str(server.run_dir)).replace("    weekly", "    size 1"))
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_polled_by("elm-MDT0000")
    command = ["logrotate", "--force", "--state", f"{server.root}/rotated", str(rules)]
    subprocess.run(command, check=True, timeout=DEADLINE_S)
    eventually((logs / "hsm-shipper.log").exists)
    assert server.stop() == 0
    assert "mdt-elm-MDT0000: polling" in (logs / "hsm-shipper.log.1").read_text()
    assert "mdt-elm-MDT0000: stopped" in (logs / "hsm-shipper.log").read_text()
