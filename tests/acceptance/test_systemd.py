"""The units of deploy/systemd: what they run tells systemd the truth, and systemd finds no fault with them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hsm_shipper.config import Config
from hsm_shipper.supervision.supervisord import DISCOVERY
from tests.conftest import PrivateServer
from tests.support.shipper import MetadataServer, action_line
from tests.support.units import UNITS, Systemd, setting, settings
from tests.support.waiting import DEADLINE_S, eventually

ROOT = Path(__file__).parents[2]
SHIPPER_UNIT = UNITS / "hsm-action-shipper.service"
AUDITOR_UNIT = UNITS / "hsm-stream-reconciler.service"
EXPORTER_UNIT = ROOT / "deploy/prometheus/hsm-stream-stats.service"
ALL_UNITS = sorted([*UNITS.iterdir(), EXPORTER_UNIT])

systemd_analyze_needed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: apt-get install systemd)"
)


NOBODY = 65534


def can_close_in() -> bool:
    """Whether namespaces of mounts and bounding sets can be made here."""
    if os.getuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    tried = ["unshare", "--mount", "setpriv", "--bounding-set=-all", "true"]
    return subprocess.run(tried, capture_output=True, timeout=DEADLINE_S, check=False).returncode == 0


CAN_CLOSE_IN = can_close_in()


@pytest.fixture
def systemd(server: MetadataServer) -> Iterator[Systemd]:
    with closing(Systemd(server.root)) as systemd:
        yield systemd


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_it_is_ready_once_discovery_has_looked_and_says_when_it_stops(server: MetadataServer, abstract: bool) -> None:
    with closing(Systemd(server.root, abstract=abstract)) as systemd:
        _start_and_stop(server, systemd)


def _start_and_stop(server: MetadataServer, systemd: Systemd) -> None:
    mdts = ["elm-MDT0000", "elm-MDT0001"]
    for mdt in mdts:
        server.add_mdt(mdt, action_line(1))
    systemd.start(SHIPPER_UNIT, server)
    told = systemd.hear()
    assert told.fields == {"READY": "1", "STATUS": "watching 2 MDTs"}
    programs = server.programs()
    assert {f"mdt-{mdt}" for mdt in mdts} <= programs.keys() and programs[DISCOVERY].pid
    assert told.pid == server.pid, "NotifyAccess=main listens to nobody else"
    assert "NOTIFY_SOCKET" not in Path(f"/proc/{programs[DISCOVERY].pid}/environ").read_text()

    os.kill(server.pid, signal.SIGTERM)
    told = systemd.hear_until(STOPPING="1")
    assert told.pid == server.pid
    assert server.wait_end() == 0
    assert not server.processes()


def test_the_status_follows_the_mdts(server: MetadataServer, systemd: Systemd) -> None:
    systemd.start(SHIPPER_UNIT, server)
    assert systemd.hear().fields == {"READY": "1", "STATUS": "watching 0 MDTs"}
    server.add_mdt("elm-MDT0000")
    assert systemd.hear().fields["STATUS"] == "watching 1 MDT"


def test_that_discovery_does_not_run_is_told(server: MetadataServer, systemd: Systemd) -> None:
    systemd.start(SHIPPER_UNIT, server)
    systemd.hear_until(READY="1")
    os.kill(server.programs()[DISCOVERY].pid, signal.SIGKILL)
    told = systemd.hear()
    assert told.fields.keys() == {"STATUS"} and "discovery does not run" in told.fields["STATUS"]
    systemd.hear_until(READY="1", STATUS="watching 0 MDTs")


def test_a_reload_is_no_stop(server: MetadataServer, systemd: Systemd) -> None:
    """To systemd, which would kill what has said STOPPING=1 and goes on."""
    systemd.start(SHIPPER_UNIT, server)
    systemd.hear_until(READY="1")
    os.kill(server.pid, signal.SIGHUP)
    assert systemd.hear().fields["RELOADING"] == "1"
    assert systemd.hear().fields == {"READY": "1", "STATUS": "watching 0 MDTs"}


def test_a_systemd_that_takes_nothing_is_told_later_and_holds_up_nobody(
    server: MetadataServer, systemd: Systemd
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
        other.setblocking(False)
        while True:  # until its queue is full
            other.sendto(b"OTHER=1", systemd.address)
    server.add_mdt("elm-MDT0000", action_line(1))
    systemd.start(SHIPPER_UNIT, server)
    server.wait_running("elm-MDT0000")
    eventually(lambda: "cannot tell systemd how we are" in server.log.read_text())  # once discovery has looked
    systemd.hear_until(READY="1")
    assert server.log.read_text().count("cannot tell systemd how we are") == 1


# As the unit has it: / read-only but for the folders that it names, a /tmp of its own, these capabilities and no more.
_CLOSED = """
mount --make-rprivate /
for folder in "$STATE" "$RUN" "$TMPDIR"; do mkdir -p "$folder"; mount --bind "$folder" "$folder"; done
mount -o remount,bind,ro /
exec setpriv --bounding-set=-all,{capabilities} --inh-caps=-all --no-new-privs "$@"
"""


@pytest.mark.skipif(not CAN_CLOSE_IN, reason="needs root, unshare and setpriv, and a kernel that lets it use them")
def test_what_the_unit_leaves_is_enough(server: MetadataServer, private_server: PrivateServer) -> None:
    """Also for a Redis on the same server, whose socket is another user's."""
    socket_path = server.root / "redis.sock"
    redis = private_server(unixsocket=str(socket_path), unixsocketperm="700")
    os.chown(socket_path, NOBODY, NOBODY)
    server.configure(redis_url=f"unix://{socket_path}?db=0", log_file=f"{server.run_dir}/log")
    server.add_mdt("elm-MDT0000", action_line(1))
    capabilities = ",".join(
        f"+{name.lower().removeprefix('cap_')}"
        for name in setting(SHIPPER_UNIT, "Service.CapabilityBoundingSet").split()
    )
    closed = ["unshare", "--mount", "sh", "-euc", _CLOSED.format(capabilities=capabilities), "sh"]
    folders = {"STATE": str(server.state_dir), "RUN": str(server.run_dir), "TMPDIR": f"{server.root}/tmp"}
    command = shlex.split(setting(SHIPPER_UNIT, "Service.ExecStart"))
    server.start(command=[*closed, *command], environ=server.environ() | folders)
    with redis.client() as client:
        eventually(lambda: client.xlen("hsm:actions:elm-MDT0000") == 1)
    assert server.stop() == 0
    log = (server.run_dir / "log").read_text()
    assert "ERROR" not in log and "Traceback" not in log
    assert (server.state_dir / "elm-MDT0000.sqlite3").exists()


@pytest.mark.parametrize("unit", [SHIPPER_UNIT, EXPORTER_UNIT], ids=lambda unit: unit.name)
def test_what_cannot_be_used_is_for_a_person_and_all_else_is_tried_again(unit: Path) -> None:
    assert setting(unit, "Service.Restart") == "on-failure"
    assert setting(unit, "Service.RestartPreventExitStatus") == "2"


def test_the_shipper_is_never_given_up() -> None:
    assert setting(SHIPPER_UNIT, "Unit.StartLimitIntervalSec") == "0"


def test_the_folders_of_the_units_are_those_of_the_default_configuration() -> None:
    config = Config()
    assert config.state_dir == "/var/lib/" + setting(SHIPPER_UNIT, "Service.StateDirectory")
    assert config.run_dir == "/run/" + setting(SHIPPER_UNIT, "Service.RuntimeDirectory")
    assert f"-{config.state_dir}" == setting(AUDITOR_UNIT, "Service.ReadWritePaths")
    logs = "/var/log/" + setting(SHIPPER_UNIT, "Service.LogsDirectory")
    assert f"# log_file: {logs}/" in (ROOT / "deploy/hsm-shipper.yaml").read_text()
    assert f"\n{logs}/*.log {{" in (ROOT / "deploy/logrotate/hsm-shipper").read_text()


def test_the_auditor_is_as_closed_in_as_the_shipper() -> None:
    ours, theirs = settings(SHIPPER_UNIT), settings(AUDITOR_UNIT)
    closing = re.compile(r"Service\.(User|Umask|Protect|Private|Restrict|Lock|SystemCall|Capability|NoNew)\w*$")
    assert {n: v for n, v in ours.items() if closing.match(n) and "RestartPrevent" not in n} == {
        n: v for n, v in theirs.items() if closing.match(n)
    }


@systemd_analyze_needed
@pytest.mark.parametrize("unit", ALL_UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_every_line(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@systemd_analyze_needed
@pytest.mark.parametrize("unit", [SHIPPER_UNIT, AUDITOR_UNIT], ids=lambda unit: unit.name)
def test_the_score_of_systemd_is_as_documented(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at unit files: it is older than 250")
    found = re.findall(r"Overall exposure level .*: ([\d.]+) OK", done.stdout)
    assert found, done.stdout + done.stderr
    documented = re.findall(rf"`{unit.name}` \| ([\d.]+)", (ROOT / "docs/operations.md").read_text())
    assert documented, f"docs/operations.md has no score of {unit.name}"
    # Releases of systemd differ a little in what they count.
    assert abs(float(found[0]) - float(documented[0])) <= 0.3


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
