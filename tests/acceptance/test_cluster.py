"""The installed commands on a Redis Cluster: whole answers, or an error that says so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hsm_shipper.contract.acl_commands import CLUSTER_READER_COMMANDS, CLUSTER_SHIPPER_COMMANDS
from tests.acceptance.test_permissions import CHECKER, DOCUMENT, PASSWORD, Role, role
from tests.simulator import SimulatedMdt
from tests.support.clusters import RedisCluster
from tests.support.shipper import COMMAND, clean_environment
from tests.support.site import SimulatedServer, is_true, run_once
from tests.support.waiting import DEADLINE_S

MDTS = [f"elm-MDT000{number}" for number in range(4)]
OLD = "elm-MDT0009"
TAIL = ("hsm-stream-tail", "-n", "100", "--no-follow", "--no-paths")
TOP = ("hsm-action-top", "--run-once")
STATS = ("hsm-stream-stats", "--format", "json")
RECONCILER = ("hsm-stream-reconciler", "--json")
# With the exit status of a server that does not answer.
TOOLS = {TAIL: 1, TOP: 1, STATS: 1, RECONCILER: 2}
each_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool[0])


class ClusterSite:
    """A metadata server with four MDTs of five actions each, whose streams lie on all nodes of the cluster."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.cluster = cluster
        self.server = SimulatedServer(cluster.nodes[0], 0)
        for key in ("redis_host", "redis_port", "redis_db"):
            del self.server.keys[key]
        # A busy machine takes longer for a poll than the others have for a site.
        self.server.configure(redis_url=cluster.url, poll_interval=20)
        self.mdts = [SimulatedMdt(name) for name in MDTS]
        for mdt in self.mdts:
            for _ in range(5):
                mdt.submit("ARCHIVE")
            mdt.mount(self.server.mds)

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A tool, to its end."""
        words = [str(COMMAND.with_name(command)), "-c", str(self.server.config), *arguments]
        environment = clean_environment()
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def whole(self, command: str, *arguments: str) -> str:
        """What a tool prints, which must work."""
        done = self.run(command, *arguments)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def check_true(self) -> None:
        """Every stream says what the list does."""
        for mdt in self.mdts:
            with self.cluster.client_of(f"hsm:actions:{mdt.name}") as client:
                assert is_true(client, mdt)


@pytest.fixture
def site(cluster: RedisCluster) -> Iterator[ClusterSite]:
    site = ClusterSite(cluster)
    yield site
    site.server.close()


@pytest.fixture
def polled(site: ClusterSite) -> ClusterSite:
    """One whose shipper has run."""
    run_once(site.server)
    return site


def test_the_shipper(site: ClusterSite) -> None:
    server = site.server
    server.configure(poll_interval=0.1)
    server.start()
    for mdt in site.mdts:
        server.wait_polled(mdt)
    assert len({site.cluster.node_of(f"hsm:actions:{mdt.name}").port for mdt in site.mdts}) == 3
    site.check_true()
    site.cluster.move(f"hsm:actions:{MDTS[0]}")
    site.cluster.fail_over(f"hsm:actions:{MDTS[1]}")
    for mdt in site.mdts:
        mdt.submit("RESTORE")
        mdt.write()
    for mdt in site.mdts:
        server.wait_polled(mdt)
    site.check_true()
    done = server.run("maintain")
    assert done.returncode == 0, done.stderr
    status = server.wait_status_ok().stdout
    assert all(mdt in status for mdt in MDTS)
    assert "cannot look at the streams" not in server.log.read_text()
    assert server.stop() == 0


def test_check(polled: ClusterSite) -> None:
    done = polled.server.run("check", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)["findings"]
    troubles = {finding["text"] for finding in told if finding["level"] != "ok"}
    assert troubles == {"persistence: none, a restart loses every event"}, troubles
    subjects = {finding["subject"] for finding in told}
    assert {f"Redis {node.host}:{node.port}" for node in polled.cluster.nodes if node.is_primary()} < subjects
    assert any("a cluster of 3 primaries" in finding["text"] for finding in told)


def test_each_tool_has_all_streams(polled: ClusterSite) -> None:
    assert polled.whole(*TAIL).count("WAITING") == 20
    for told in (polled.whole(*TOP), polled.whole(*STATS)):
        assert all(mdt in told for mdt in MDTS)
    reports: list[dict[str, Any]] = json.loads(polled.whole(*RECONCILER))["mdts"]
    assert [(report["mdt"], report["live"]) for report in reports] == [(mdt, 5) for mdt in MDTS]


def test_a_stream_is_retired(polled: ClusterSite) -> None:
    with polled.cluster.client_of(f"hsm:actions:{OLD}") as client:
        client.xadd(f"hsm:actions:{OLD}", {"data": "{}"})
        assert "removed stream" in polled.whole("hsm-stream-reconciler", "--retire", OLD, "--yes")
        assert not client.exists(f"hsm:actions:{OLD}")


@each_tool
def test_a_node_that_is_named_by_itself(polled: ClusterSite, tool: tuple[str, ...]) -> None:
    node = polled.cluster.nodes[0]
    polled.server.configure(redis_url=f"redis://{node.host}:{node.port}/0")
    done = polled.run(*tool)
    assert done.returncode == TOOLS[tool] and done.stdout == ""
    assert f"redis_url: redis+cluster://{node.host}:{node.port}" in done.stderr


def test_the_shipper_of_a_node_that_is_named_by_itself(site: ClusterSite) -> None:
    node = site.cluster.nodes[0]
    for db in (0, 1):
        site.server.configure(redis_url=f"redis://{node.host}:{node.port}/{db}")
        for command in ("check", "--run-once"):
            done = site.server.run(command)
            assert done.returncode == (2 if command == "check" else 1)
            assert f"redis_url: redis+cluster://{node.host}:{node.port}" in done.stdout + done.stderr
    assert not any(node.ask("KEYS", "*") for node in site.cluster.nodes if node.is_primary())


def test_nothing_is_told_of_a_part(polled: ClusterSite) -> None:
    """A node and its replica are down: first its slots are served by a node that is silent, then by none."""
    victim = polled.cluster.node_of(f"hsm:actions:{MDTS[0]}")
    polled.cluster.partner_of(victim).kill()
    victim.kill()
    for tool, status in TOOLS.items():
        done = polled.run(*tool)
        assert (done.returncode, done.stdout) == (status, ""), (tool, done.stdout)
        assert str(polled.cluster.url) in done.stderr, done.stderr
    done = polled.server.run("check")
    assert done.returncode == 2 and f"connecting to {victim.host}:{victim.port}" in done.stdout


def let(cluster: RedisCluster, *commands: str) -> None:
    """The user `user` may do this and no more, on every node."""
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "user", "reset", "on", f">{PASSWORD}", "~hsm:actions:*", "~{hsm:actions:*}:*",
                 "-@all", *commands)  # fmt: skip


def test_users(site: ClusterSite) -> None:
    """They need what the document says, and without any of that for clusters the error names it."""
    password = site.server.root / "password"
    password.write_text(PASSWORD)
    site.server.configure(redis_username="user", redis_password_file=str(password))
    let(site.cluster, *CHECKER.commands, *CLUSTER_SHIPPER_COMMANDS.split())
    run_once(site.server)
    assert site.server.run("check").returncode == 1, "there is no persistence"
    done = site.server.run("--run-once", "--maintenance-now")
    assert done.returncode == 0, done.stderr
    roles: dict[tuple[str, ...], Role] = {tool: role(f"`{tool[0]}`") for tool in TOOLS}
    key = f"hsm:actions:{MDTS[0]}"
    source, target = site.cluster.begin_move(key)
    site.cluster.move_keys(key, source, target)
    for tool, its in roles.items():
        let(site.cluster, *its.commands, *CLUSTER_READER_COMMANDS.split())
        site.whole(*tool)
    for lacking in CLUSTER_READER_COMMANDS.split():
        let(site.cluster, *roles[TAIL].commands, *(word for word in CLUSTER_READER_COMMANDS.split() if word != lacking))
        assert f"allow this Redis user {lacking};" in site.run(*TAIL).stderr
    for lacking in CLUSTER_SHIPPER_COMMANDS.split():
        let(site.cluster, *CHECKER.commands, *(word for word in CLUSTER_SHIPPER_COMMANDS.split() if word != lacking))
        site.mdts[0].submit("RESTORE")
        site.mdts[0].write()
        assert f"allow this Redis user {lacking};" in run_once(site.server, 1)
    site.cluster.end_move(key, source, target)


def test_the_commands_are_in_the_document() -> None:
    text = DOCUMENT.read_text()
    assert f"`{CLUSTER_SHIPPER_COMMANDS}`" in text and f"`{CLUSTER_READER_COMMANDS}`" in text
