"""A metadata server of a site: from a clean root to events, an upgrade and the removal, as its administrator goes."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.conftest import deb
from tests.simulator import SimulatedMds, SimulatedMdt, Workload, populate
from tests.support.clean_root import CleanRoot
from tests.support.servers import RedisServer
from tests.support.truth import digests_of, judge_stream
from tests.support.waiting import DEADLINE_S, eventually

MDT = "elm-MDT0000"
UNIT = "hsm-action-shipper.service"
CONFIG = "etc/hsm-shipper/hsm-shipper.yaml"
STATE = f"var/lib/hsm-shipper/{MDT}.sqlite3"


class Site:
    """One metadata server in a clean root, with an MDT, and the Redis that it ships to."""

    def __init__(self, root: CleanRoot, redis: RedisServer) -> None:
        self.root = root
        self.redis = redis
        self.mds = SimulatedMds(root.path)
        self.mdt = SimulatedMdt(MDT, 1)
        populate(self.mdt, 200)
        self.mdt.mount(self.mds)
        self.mdt.set_hsm_control("enabled")
        self.mdt.write()
        self.workload = Workload(self.mdt)
        self._log = (root / "var/log/shipper").open("ab")

    def install(self, folder: Path) -> None:
        """Install the shipper's package."""
        (file,) = self.root.bring(deb(folder))
        self.root.run("apt-get", "install", "--yes", "--allow-downgrades", file)

    def edit(self, **keys: object) -> None:
        """Set keys of the configuration, each in its line."""
        text = (self.root / CONFIG).read_text()
        for key, value in keys.items():
            text, found = re.subn(rf"^(# )?{key}: .*$", f"{key}: {value}", text, count=1, flags=re.MULTILINE)
            assert found, key
        (self.root / CONFIG).write_text(text)

    def start(self) -> None:
        """`systemctl start`."""
        self._process = self.root.start(UNIT, self._log)

    def stop(self) -> None:
        """`systemctl stop`."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(DEADLINE_S) == 0

    def restart(self) -> None:
        """`systemctl try-restart`."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End it, if it runs, and all its processes with it."""
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        self._log.close()

    def live_on(self) -> None:
        """Let requests come, run and finish, and wait until the stream tells of it and of nothing else."""
        self.workload.advance(60)
        self.mdt.write()
        eventually(self.is_told, DEADLINE_S, 0.2)

    def is_told(self) -> bool:
        """Whether the stream says what the list says; fails if it says anything false or twice."""
        with self.redis.client(1) as client:
            verdict = judge_stream(client, f"hsm:actions:{MDT}")
        assert not verdict.complaints
        return verdict.digests() == digests_of(self.mds.actions_path(MDT).read_bytes())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis as `check` wants it."""
    server = RedisServer(tmp_path / "redis", {"appendonly": "yes", "maxmemory-policy": "noeviction"}).start()
    yield server
    server.kill()


@pytest.fixture
def site(root: CleanRoot, redis: RedisServer) -> Iterator[Site]:
    """A site on which nothing is installed yet."""
    site = Site(root, redis)
    root.pretend_systemd()
    yield site
    site.kill()


def test_install_edit_start_upgrade_remove(site: Site, earlier: Path, packages: Path) -> None:
    site.install(earlier)
    site.edit(redis_url=f'"redis://127.0.0.1:{site.redis.port}/1"')
    edited = (site.root / CONFIG).read_bytes()
    site.start()
    site.live_on()
    checked = site.root.run("hsm-action-shipper", "check")
    assert not re.findall(r"^(?:warning|problem) .*", checked, re.MULTILINE), checked

    site.root.asked()
    site.install(packages)
    assert f"try-restart {UNIT}" in site.root.asked()
    before = (site.root / STATE).stat().st_ino
    site.restart()
    site.live_on()
    assert (site.root / STATE).stat().st_ino == before
    assert (site.root / CONFIG).read_bytes() == edited
    for command in (("hsm-action-shipper", "status"), ("hsm-stream-reconciler",), ("hsm-action-top", "--run-once")):
        assert MDT in site.root.run(*command)

    site.stop()
    site.root.run("apt-get", "remove", "--yes", "hsm-action-shipper")
    assert (site.root / STATE).stat().st_ino == before
    assert (site.root / CONFIG).read_bytes() == edited
    assert site.is_told()


def test_a_downgrade_is_refused_by_the_state_file(site: Site, packages: Path, later: Path) -> None:
    site.install(later)
    site.edit(redis_host="127.0.0.1", redis_port=site.redis.port, poll_interval=1)
    site.start()
    site.live_on()
    site.install(packages)
    site.restart()
    refusal = "was written by a newer release (migration '9999_later' is unknown here); install that release again"
    import time; time.sleep(15)
    print(site.root.run("hsm-action-shipper", "status", status=None)); print((site.root/"var/log/shipper").read_text()); print(site.root.run("hsm-action-shipper", "check", status=None))
    eventually(lambda: refusal in site.root.run("hsm-action-shipper", "status", status=None), 4, 0.5)
    with sqlite3.connect(site.root / STATE) as connection:
        assert connection.execute("SELECT count(*) FROM _sqlite_migrations WHERE name = '9999_later'").fetchone() == (
            1,
        )
    # The hint, followed.
    site.install(later)
    site.restart()
    site.live_on()
    # And its other half: the file removed under the older release.
    site.install(packages)
    site.stop()
    for path in (site.root / "var/lib/hsm-shipper").glob(f"{MDT}.sqlite3*"):
        path.unlink()
    site.start()
    site.live_on()
