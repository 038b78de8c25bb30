"""A metadata server of a site: from a clean root to events, an upgrade and the removal, as its administrator goes."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packages.conftest import deb
from tests.simulator import SimulatedMds, SimulatedMdt, Workload, populate
from tests.support.clean_root import CleanRoot
from tests.support.sentinels import SERVICE, SentinelServer
from tests.support.servers import RedisServer, free_port
from tests.support.tls import new_authority, server_with_tls, tls_options
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
        self._process: subprocess.Popen[bytes] | None = None

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
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(DEADLINE_S) == 0

    def restart(self) -> None:
        """`systemctl try-restart`."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End it, if it runs, and all its processes with it."""
        if self._process is not None:
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


class RedundantRedis:
    """A primary, its replica and three Sentinels, which all talk with TLS."""

    def __init__(self, folder: Path) -> None:
        authority = new_authority(folder)
        self.ca_file = authority.certificate
        tls = {"tls-replication": "yes", **tls_options(authority, authority.issue("redis"), "no")}
        kept = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        primary_port = str(free_port())
        follows = {"tls-port": str(free_port()), "replicaof": f"127.0.0.1 {primary_port}"}
        self.primary = RedisServer(folder / "primary", {"tls-port": primary_port, **tls, **kept})
        self._servers = [self.primary, RedisServer(folder / "replica", {**follows, **tls, **kept})]
        self._sentinels = []
        ports = [free_port() for _ in range(3)]
        for port in ports:
            lines = [f"{name} {value}" for name, value in {"tls-port": str(port), **tls}.items()]
            self._sentinels.append(SentinelServer(folder / str(port), self.primary, *lines, port=int(primary_port)))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.url = f"rediss+sentinel://{hosts}/{SERVICE}/1?ssl_ca_certs=/etc/hsm-shipper/redis-ca.pem"

    def start(self) -> None:
        """Start all; returns once the Sentinels know each other and the replica."""
        for server in (*self._servers, *self._sentinels):
            server.start()
        eventually(lambda: all(self._is_settled(sentinel) for sentinel in self._sentinels), DEADLINE_S, 0.1)

    def _is_settled(self, sentinel: SentinelServer) -> bool:
        with sentinel.client() as client:
            told = client.sentinel_master(SERVICE)
        return bool(told["num-other-sentinels"] == 2 and told["num-slaves"] == 1)

    def kill(self) -> None:
        """End all."""
        for server in (*self._sentinels, *self._servers):
            server.kill()


@pytest.fixture
def redundant(tmp_path: Path) -> Iterator[RedundantRedis]:
    """The Redis of a site that cannot be without."""
    with server_with_tls():
        redundant = RedundantRedis(tmp_path)
        redundant.start()
    yield redundant
    redundant.kill()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One Redis, for the rest."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture
def open_site(root: CleanRoot) -> Iterator[Callable[[RedisServer], Site]]:
    """Makes the site, on which nothing is installed yet."""
    root.pretend_systemd()
    with contextlib.ExitStack() as sites:

        def opened(redis: RedisServer) -> Site:
            site = Site(root, redis)
            sites.callback(site.kill)
            return site

        yield opened


def test_install_edit_start_upgrade_remove(
    open_site: Callable[[RedisServer], Site], redundant: RedundantRedis, earlier: Path, packages: Path
) -> None:
    site = open_site(redundant.primary)
    site.install(earlier)
    shutil.copy(redundant.ca_file, site.root / "etc/hsm-shipper/redis-ca.pem")
    site.edit(redis_url=f'"{redundant.url}"')
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


def test_a_downgrade_is_refused_by_the_state_file(
    open_site: Callable[[RedisServer], Site], redis: RedisServer, packages: Path, later: Path
) -> None:
    site = open_site(redis)
    site.install(later)
    site.edit(redis_host="127.0.0.1", redis_port=site.redis.port, poll_interval=1)
    site.start()
    site.live_on()
    site.install(packages)
    site.restart()
    refusal = "was written by a newer release (migration '9999_later' is unknown here); install that release again"
    eventually(lambda: refusal in site.root.run("hsm-action-shipper", "status", status=None), DEADLINE_S, 0.5)
    assert refusal in site.root.run("hsm-action-shipper", "check", status=1)
    with contextlib.closing(sqlite3.connect(site.root / STATE)) as connection:
        migrations = {name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations")}
    assert "9999_later" in migrations  # it is as the later release left it
    # The hint, followed.
    site.install(later)
    site.restart()
    site.live_on()
    # And its other half: the file is removed under the older release, which runs.
    site.install(packages)
    site.restart()
    eventually(lambda: refusal in site.root.run("hsm-action-shipper", "status", status=None), DEADLINE_S, 0.5)
    for path in (site.root / "var/lib/hsm-shipper").glob(f"{MDT}.sqlite3*"):
        path.unlink()
    site.live_on()
